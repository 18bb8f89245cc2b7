/* config.h - the file that says which ports and meters there are */
#ifndef CONFIG_H
#define CONFIG_H

#include "farm.h"

extern bool config_load(SmFarm *farm, const char *path, const char *models_path, SmError *error);

#endif
