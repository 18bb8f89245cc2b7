/*
 * pty.c - serial lines
 *
 * A pseudo terminal stands for the line: the farm holds one side, the poller opens the other as if
 * it were a serial device. The farm keeps the other side open too, so that the line does not hang
 * up when the poller closes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "net.h"
#include "pty.h"

/* Makes the terminal carry bytes as they are. */
static bool
pty_raw(int fd)
{
	struct termios line;

	if (tcgetattr(fd, &line) != 0)
		return false;
	cfmakeraw(&line);
	return tcsetattr(fd, TCSANOW, &line) == 0;
}

/* Points the symbolic link of a port, if it has one, at the line. */
static bool
pty_link(const SmPort *port)
{
	if (port->link[0] == '\0')
		return true;
	unlink(port->link);
	return symlink(port->path, port->link) == 0;
}

/* Opens a line; port->path is what a client opens, port->fd the far side that keeps it alive. */
bool
pty_open(SmPort *port, SmError *error)
{
	int near = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	bool good = near >= 0 && grantpt(near) == 0 && unlockpt(near) == 0 &&
				ptsname_r(near, port->path, sizeof(port->path)) == 0;

	if (good)
		port->fd = open(port->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (good && port->fd >= 0 && pty_raw(port->fd) && pty_link(port))
	{
		net_connection(port, near, false);
		return true;
	}
	farm_fail(error, "could not open a serial line for %s: %s", port->name, strerror(errno));
	if (port->fd >= 0)
		close(port->fd);
	port->fd = -1;
	if (near >= 0)
		close(near);
	return false;
}
