/*
 * outside.c - a host outside that answers at once, and the limit the courier is compared with.
 *
 *	outside sink                                  HTTP server on a free port of loopback; prints it, runs until killed
 *	outside load URL COUNT PARALLEL               a bare libcurl-multi loop: POSTs COUNT times; requests per second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODY 300
#define MOST_FDS 4096

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* One request is one read here: they are small and come over loopback. */
static void
serve(int fd)
{
	static const char answer[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";
	static char seen[MOST_FDS][2048];
	static size_t length[MOST_FDS];
	char *head;
	ssize_t got = read(fd, seen[fd] + length[fd], sizeof(seen[fd]) - length[fd] - 1);
	char *size;

	if (got <= 0)
	{
		length[fd] = 0;
		close(fd);
		return;
	}
	length[fd] += (size_t) got;
	seen[fd][length[fd]] = '\0';
	head = strstr(seen[fd], "\r\n\r\n");
	size = strcasestr(seen[fd], "content-length:");
	if (head == NULL || (size != NULL && length[fd] < (size_t) (head + 4 - seen[fd]) +
														  strtoul(size + 15, NULL, 10)))
		return;
	length[fd] = 0;
	if (write(fd, answer, sizeof(answer) - 1) < 0)
		close(fd);
}

static int
sink(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int door = socket(AF_INET, SOCK_STREAM, 0);
	int poll = epoll_create1(0);
	struct epoll_event events[256] = {{.events = EPOLLIN, .data.fd = door}};
	int on = 1;

	if (bind(door, (struct sockaddr *) &address, size) != 0 || listen(door, 512) != 0 ||
		getsockname(door, (struct sockaddr *) &address, &size) != 0)
		return 1;
	epoll_ctl(poll, EPOLL_CTL_ADD, door, &events[0]);
	printf("ready %d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;)
	{
		int count = epoll_wait(poll, events, 256, -1);

		for (int i = 0; i < count; i++)
		{
			int fd = events[i].data.fd;
			struct epoll_event event = {.events = EPOLLIN};

			if (fd != door)
			{
				serve(fd);
				continue;
			}
			event.data.fd = accept(door, NULL, NULL);
			setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
			if (event.data.fd >= MOST_FDS ||
				epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event) != 0)
				close(event.data.fd);
		}
	}
}

static size_t
swallow(char *bytes, size_t size, size_t count, void *context)
{
	(void) bytes;
	(void) context;
	return size * count;
}

static CURL *
request(const char *url)
{
	static char body[BODY];
	CURL *easy = curl_easy_init();

	memset(body, 'x', sizeof(body));
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, swallow);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) sizeof(body));
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	return easy;
}

static int
load(const char *url, long count, int parallel)
{
	CURLM *multi = curl_multi_init();
	double begin = now_s();
	long started = 0;
	long done = 0;
	int running;
	int left;
	CURLMsg *message;

	curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, 16L);
	while (done < count)
	{
		for (; started < count && started - done < parallel; started++)
			curl_multi_add_handle(multi, request(url));
		curl_multi_perform(multi, &running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			CURL *easy = message->easy_handle;

			if (message->data.result != CURLE_OK)
				return 1;
			curl_multi_remove_handle(multi, easy);
			curl_easy_cleanup(easy);
			done++;
		}
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 100, NULL);
	}
	printf("load %.0f\n", (double) count / (now_s() - begin));
	return 0;
}

int
main(int count, char **arguments)
{
	if (count == 2 && strcmp(arguments[1], "sink") == 0)
		return sink();
	if (count == 5 && strcmp(arguments[1], "load") == 0)
		return load(arguments[2], atol(arguments[3]), atoi(arguments[4]));
	fputs("outside sink | outside load URL COUNT PARALLEL\n", stderr);
	return 2;
}
