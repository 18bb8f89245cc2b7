/*
 * frames.c - frames of DL/T 645 for the decoder, and the limit it is compared with: the codec alone.
 *
 *	frames make COUNT			writes frames to standard output, with noise between them
 *	frames take				reads them, finds each and its identifier; frames per second
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../poller/dlt645.h"

#define ROOM (1 << 16)

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Writes answers of several lengths, each behind what a line leaves before it. */
static int
make(long count)
{
	uint8_t bytes[4 + DLT645_FRAME_MAX];
	uint8_t address[DLT645_ADDRESS] = {0};
	uint8_t data[24] = {0, 0, 1, 0};
	long i;

	for (i = 0; i < count; i++)
	{
		int lead = (int) (i % 5);
		int length;

		memset(bytes, i % 7 == 0 ? 0x68 : 0xFE, 4);
		address[0] = (uint8_t) (i % 10 << 4 | i / 10 % 10);
		memset(data + 4, (int) (i % 10), sizeof(data) - 4);
		data[1] = i % 3 == 0 ? 0xFF : 0;
		length = dlt645_frame(address, 0x91, data, i % 3 == 0 ? 24 : 8, bytes + lead);
		if (fwrite(bytes, (size_t) (lead + length), 1, stdout) != 1)
			return 1;
	}
	return 0;
}

static int
take(void)
{
	static uint8_t bytes[ROOM];
	double begin = now_s();
	size_t held = 0;
	size_t got;
	long count = 0;

	while ((got = fread(bytes + held, 1, sizeof(bytes) - held, stdin)) > 0)
	{
		SmDltFrame frame;
		uint32_t di;
		int used = 0;

		held += got;
		while (dlt645_take(bytes + used, (int) held - used, &frame) == FRAME_WHOLE)
		{
			used += frame.taken;
			count += dlt645_di(&frame, &di);
		}
		used += frame.skipped;
		memmove(bytes, bytes + used, held - (size_t) used);
		held -= (size_t) used;
	}
	printf("%.0f\n", (double) count / (now_s() - begin));
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "make") == 0)
		return make(atol(argv[2]));
	if (argc == 2 && strcmp(argv[1], "take") == 0)
		return take();
	fprintf(stderr, "usage: frames make COUNT | frames take\n");
	return 2;
}
