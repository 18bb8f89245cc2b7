/*
 * serial.c - links over a serial line of this machine
 *
 * The line belongs to us alone (TIOCEXCL and a lock that other well-behaved programs honour), has
 * no control lines to wait for, and hands on every byte as it comes. Where frames begin and end is
 * found by their content; the silence before a question is kept by the bus.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "link.h"

static const struct
{
	int baud;
	speed_t speed;
} serial_speeds[] = {{300, B300},     {600, B600},       {1200, B1200},    {2400, B2400},
					 {4800, B4800},   {9600, B9600},     {19200, B19200},  {38400, B38400},
					 {57600, B57600}, {115200, B115200}, {230400, B230400}};

static speed_t
serial_speed(int baud)
{
	size_t i;

	for (i = 0; i < sizeof(serial_speeds) / sizeof(serial_speeds[0]); i++)
	{
		if (serial_speeds[i].baud == baud)
			return serial_speeds[i].speed;
	}
	return B9600;
}

/* Sets speed and frame; raw, without flow control. */
static bool
serial_tune(int fd, const SmSerialLine *line)
{
	struct termios settings;

	if (tcgetattr(fd, &settings) != 0)
		return false;
	cfmakeraw(&settings);
	settings.c_cflag &= (tcflag_t) ~(CSIZE | PARENB | PARODD | CSTOPB | CRTSCTS);
	settings.c_cflag |= CLOCAL | CREAD | (line->bits == 7 ? CS7 : CS8);
	if (line->parity != 'N')
		settings.c_cflag |= PARENB;
	if (line->parity == 'O')
		settings.c_cflag |= PARODD;
	if (line->stop == 2)
		settings.c_cflag |= CSTOPB;
	settings.c_iflag |= IGNBRK | IGNPAR;
	settings.c_cc[VMIN] = 1;
	settings.c_cc[VTIME] = 0;
	cfsetispeed(&settings, serial_speed(line->baud));
	cfsetospeed(&settings, serial_speed(line->baud));
	return tcsetattr(fd, TCSANOW, &settings) == 0 && tcflush(fd, TCIOFLUSH) == 0;
}

/* Opens the device; what went wrong, or NULL. */
static const char *
serial_try(SmLink *link)
{
	const SmRoute *route = link->route;
	int exclusive = 1;

	link->fd = open(route->host, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (link->fd < 0 && errno == EBUSY)
		return "another program has the serial line";
	if (link->fd < 0)
		return strerror(errno);
	if (!isatty(link->fd))
		return "the device is no serial line";
	if (flock(link->fd, LOCK_EX | LOCK_NB) != 0 || ioctl(link->fd, TIOCEXCL, &exclusive) != 0)
		return "another program has the serial line";
	if (!serial_tune(link->fd, &route->line))
		return strerror(errno);
	return NULL;
}

/* Opens a line; it stands at once or not at all. */
void
serial_open(SmLink *link)
{
	const SmSerialLine *line = &link->route->line;
	int bits = 1 + line->bits + (line->parity != 'N') + line->stop;
	const char *why = serial_try(link);

	if (why != NULL)
	{
		link_fail(link, why);
		return;
	}
	link->char_us = (bits * 1000000 + line->baud - 1) / line->baud;
	loop_watch(link->loop, &link->watch, link->fd, EPOLLOUT);
	loop_set(link->loop, &link->timer, link->limit_us);
}

/* Lets others have the line; a mark that is left would keep ourselves out, too. */
void
serial_release(SmLink *link)
{
	link->char_us = 0;
	if (link->fd >= 0)
		ioctl(link->fd, TIOCNXCL);
}
