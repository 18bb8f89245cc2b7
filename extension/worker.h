/*
 * worker.h - see worker.c.
 */
#ifndef SUBMETER_WORKER_H
#define SUBMETER_WORKER_H

extern void worker_init(void);

#endif
