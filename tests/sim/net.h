/* net.h - ports, connections and the event loop */
#ifndef NET_H
#define NET_H

#include "farm.h"

extern bool net_listen(SmPort *port, SmError *error);
extern void net_down(SmPort *port);
extern void net_accept(SmPort *port);
extern void net_ready(struct SmConnection *connection, uint32_t events);
extern void net_send_due(SmFarm *farm);
extern void net_arm_timer(SmFarm *farm);
extern void net_bury(SmFarm *farm);
extern bool net_watch(SmFarm *farm, int fd, uint32_t events, void *source);

#endif
