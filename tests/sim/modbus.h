/* modbus.h - Modbus frames, TCP and RTU */
#ifndef MODBUS_H
#define MODBUS_H

#include "net.h"

extern void modbus_cut_tcp(SmConnection *connection);
extern void modbus_cut_rtu(SmConnection *connection);

#endif
