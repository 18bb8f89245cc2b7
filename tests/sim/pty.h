/* pty.h - serial lines */
#ifndef PTY_H
#define PTY_H

#include "farm.h"

extern bool pty_open(SmPort *port, SmError *error);

#endif
