/*
 * notice.h - the room that hands messages to people over to a channel.
 */
#ifndef SUBMETER_NOTICE_H
#define SUBMETER_NOTICE_H

extern void notice_init(void);

#endif
