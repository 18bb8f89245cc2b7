/* control.h - the socket through which tests command the farm */
#ifndef CONTROL_H
#define CONTROL_H

#include "farm.h"

extern bool control_listen(SmFarm *farm, SmError *error);
extern void control_accept(SmFarm *farm);
extern void control_ready(SmControl *control);
extern void control_bury(SmFarm *farm);
extern void control_close_all(SmFarm *farm);

#endif
