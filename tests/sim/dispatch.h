/* dispatch.h - answers on their way, and the books kept about them */
#ifndef DISPATCH_H
#define DISPATCH_H

#include "farm.h"
#include "fault.h"
#include "net.h"

extern void dispatch_count(SmPort *port, SmMeter *meter, bool is_read, bool is_write);
extern void dispatch_note(SmPort *port, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void dispatch_held(SmConnection *connection);
extern void dispatch_unanswered(SmPort *port, int request_chars);
extern void dispatch_answer(SmConnection *connection, const SmPlan *plan, const SmReply *reply);
extern void dispatch_due(SmFarm *farm);
extern void dispatch_arm(SmFarm *farm);

#endif
