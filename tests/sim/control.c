/*
 * control.c - the socket through which tests command the farm
 *
 * A line in, a line out: "ok ..." or "error ...". A command is done when its answer comes. The
 * socket is a path in the file system, or a TCP port on loopback when the address is a number.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "command.h"
#include "control.h"
#include "net.h"
#include "parse.h"

#define SEND_PATIENCE_MS 1000

/* Opens the listening socket at a TCP port on loopback; 0 is any, and the answer says which. */
static int
control_listen_tcp(SmFarm *farm, int64_t number)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof(address);
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) number);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		return -1;
	snprintf(farm->control_address, sizeof(farm->control_address), "%d", ntohs(address.sin_port));
	return fd;
}

/* Opens the listening socket at a path. A socket left over from a dead farm is replaced, no other file. */
static int
control_listen_unix(const SmFarm *farm)
{
	struct sockaddr_un address = {0};
	struct stat info;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, farm->control_address, sizeof(address.sun_path));
	if (stat(farm->control_address, &info) == 0 && S_ISSOCK(info.st_mode))
		unlink(farm->control_address);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		return -1;
	return fd;
}

/* Starts listening for commands. */
bool
control_listen(SmFarm *farm, SmError *error)
{
	int64_t number;
	int fd;

	farm->control_listener.source = SOURCE_CONTROL_LISTENER;
	farm->control_listener.farm = farm;
	farm->control_listener.fd = -1;
	if (farm->control_address[0] == '\0')
		return true;
	if (parse_integer(farm->control_address, 0, 65535, &number))
		fd = control_listen_tcp(farm, number);
	else
		fd = control_listen_unix(farm);
	if (fd < 0 || listen(fd, 64) != 0 || !net_watch(farm, fd, EPOLLIN, &farm->control_listener))
		return farm_fail(error, "could not listen for commands at %s: %s", farm->control_address,
						 strerror(errno));
	farm->control_listener.fd = fd;
	return true;
}

/* Takes in all that wait at the control socket. */
void
control_accept(SmFarm *farm)
{
	int fd;

	while ((fd = accept4(farm->control_listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		SmControl *control = farm_alloc(sizeof(SmControl));

		control->source = SOURCE_CONTROL;
		control->farm = farm;
		control->fd = fd;
		control->next = farm->controls;
		farm->controls = control;
		if (!net_watch(farm, fd, EPOLLIN, control))
			control->closed = true;
	}
}

/* Sends a whole answer; a client that does not read it for a second is cut off. */
static void
control_send(SmControl *control, const char *text, size_t length)
{
	struct pollfd wait = {control->fd, POLLOUT, 0};

	while (length > 0)
	{
		ssize_t sent = send(control->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && (errno != EAGAIN || poll(&wait, 1, SEND_PATIENCE_MS) != 1))
		{
			control->closed = true;
			return;
		}
		text += sent < 0 ? 0 : sent;
		length -= sent < 0 ? 0 : (size_t) sent;
	}
}

/* Runs every whole line that has come in. */
static void
control_run(SmControl *control)
{
	char *line = control->buffer;
	char *end;

	control->buffer[control->length] = '\0';
	while (!control->closed && (end = strchr(line, '\n')) != NULL)
	{
		SmAnswer answer = {{0}, 0};

		*end = '\0';
		command_run(control->farm, line, &answer);
		answer.text[answer.length] = '\n';
		control_send(control, answer.text, answer.length + 1);
		line = end + 1;
	}
	control->length -= (size_t) (line - control->buffer);
	memmove(control->buffer, line, control->length);
	if (control->length == sizeof(control->buffer) - 1)
		control->closed = true;
}

/* Handles an event on a control connection. */
void
control_ready(SmControl *control)
{
	ssize_t got = recv(control->fd, control->buffer + control->length,
					   sizeof(control->buffer) - 1 - control->length, MSG_DONTWAIT);

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		control->closed = true;
	else if (got > 0)
	{
		control->length += (size_t) got;
		control_run(control);
	}
}

/* Frees the control connections that ended in this round. */
void
control_bury(SmFarm *farm)
{
	SmControl **link = &farm->controls;

	while (*link != NULL)
	{
		SmControl *control = *link;

		if (!control->closed)
		{
			link = &control->next;
			continue;
		}
		*link = control->next;
		close(control->fd);
		free(control);
	}
}

/* Closes everything, and takes the socket's path away. */
void
control_close_all(SmFarm *farm)
{
	SmControl *control;

	for (control = farm->controls; control != NULL; control = control->next)
		control->closed = true;
	control_bury(farm);
	if (farm->control_listener.fd < 0)
		return;
	close(farm->control_listener.fd);
	if (strchr(farm->control_address, '/') != NULL)
		unlink(farm->control_address);
}
