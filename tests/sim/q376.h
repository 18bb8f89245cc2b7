/* q376.h - concentrators of Q/GDW 376.1 */
#ifndef Q376_H
#define Q376_H

#include "net.h"

extern void q376_login(SmConnection *connection);
extern void q376_beat(SmConnection *connection);
extern void q376_cut(SmConnection *connection);

#endif
