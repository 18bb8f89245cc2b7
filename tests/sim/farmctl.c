/*
 * farmctl.c - sends one command to a running submeter-farm and prints the answer
 *
 * usage: farmctl SOCKET COMMAND [WORD ...]. SOCKET is the path or the loopback port of the farm's
 * control socket. "ok" goes without saying: only what follows it is printed. Status 0, or 1 with
 * the farm's reason on stderr, or 2 when the farm cannot be reached.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "parse.h"

#define ANSWER_SIZE 65536
#define PATIENCE_S 10

/* Connects to the control socket; -1 when that fails. */
static int
farmctl_connect(const char *where)
{
	struct sockaddr_un path = {0};
	struct sockaddr_in inet = {0};
	int64_t number;
	bool tcp = parse_integer(where, 1, 65535, &number);
	int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

	path.sun_family = AF_UNIX;
	inet.sin_family = AF_INET;
	inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (tcp)
		inet.sin_port = htons((uint16_t) number);
	else if (strlen(where) < sizeof(path.sun_path))
		strcpy(path.sun_path, where);
	if (fd < 0 || connect(fd, tcp ? (struct sockaddr *) &inet : (struct sockaddr *) &path,
						  tcp ? sizeof(inet) : sizeof(path)) != 0)
		return -1;
	return fd;
}

/* Sends the words as one line. */
static bool
farmctl_send(int fd, int count, char **words)
{
	char line[4096];
	size_t length = 0;
	int i;

	for (i = 0; i < count; i++)
	{
		int wrote = snprintf(line + length, sizeof(line) - length, "%s%s", words[i],
							 i + 1 < count ? " " : "\n");

		if (wrote < 0 || (size_t) wrote >= sizeof(line) - length)
			return false;
		length += (size_t) wrote;
	}
	return send(fd, line, length, MSG_NOSIGNAL) == (ssize_t) length;
}

/* Reads the answer up to the end of its line; false when the farm went away or said nothing. */
static bool
farmctl_receive(int fd, char *answer)
{
	struct timeval patience = {PATIENCE_S, 0};
	size_t length = 0;
	ssize_t got;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (length + 1 < ANSWER_SIZE)
	{
		got = recv(fd, answer + length, ANSWER_SIZE - 1 - length, 0);
		if (got <= 0)
			return false;
		length += (size_t) got;
		answer[length] = '\0';
		if (answer[length - 1] == '\n')
			return true;
	}
	return false;
}

int
main(int argc, char **argv)
{
	static char answer[ANSWER_SIZE];
	int fd;

	if (argc < 3)
	{
		fputs("usage: farmctl SOCKET COMMAND [WORD ...]\n", stderr);
		return 2;
	}
	fd = farmctl_connect(argv[1]);
	if (fd < 0 || !farmctl_send(fd, argc - 2, argv + 2) || !farmctl_receive(fd, answer))
	{
		fprintf(stderr, "farmctl: no answer from %s\n", argv[1]);
		return 2;
	}
	close(fd);
	if (strncmp(answer, "ok", 2) != 0)
	{
		fprintf(stderr, "farmctl: %s", answer);
		return 1;
	}
	fputs(answer + (answer[2] == ' ' ? 3 : 2), stdout);
	return 0;
}
