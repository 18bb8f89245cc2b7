/*
 * stranger.c - who dialled in and is no gateway of the plan
 *
 * What a device said first is what somebody needs to know to let it in, so it is kept for the
 * database. Scanners of the internet come by the hundred: only the latest are kept, and the log is
 * told of one in ten seconds.
 */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "stranger.h"

#define STRANGER_TELL_US (10 * US_PER_S)

/* The entry of a stranger who came before, or else the place of a new one. */
static SmStranger *
stranger_find(SmStrangers *strangers, const SmStranger *wanted)
{
	SmStranger *oldest = strangers->list;
	int i;

	for (i = 0; i < strangers->count; i++)
	{
		SmStranger *entry = &strangers->list[i];

		if (strcmp(entry->address, wanted->address) == 0 &&
			strcmp(entry->peer, wanted->peer) == 0 && entry->length == wanted->length &&
			memcmp(entry->said, wanted->said, (size_t) wanted->length) == 0)
			return entry;
		if (entry->seen_us < oldest->seen_us)
			oldest = entry;
	}
	if (strangers->count < STRANGER_MOST)
		oldest = &strangers->list[strangers->count++];
	*oldest = *wanted;
	return oldest;
}

/* Tells the log, not more often than every ten seconds. */
static void
stranger_log(SmStrangers *strangers, const SmStranger *stranger, const char *why)
{
	int64_t now_us = base_now_us();
	char said[2 * STRANGER_SHOWN + 1] = "";
	int i;

	if (strangers->told_us != 0 && now_us - strangers->told_us < STRANGER_TELL_US)
	{
		strangers->untold++;
		return;
	}
	for (i = 0; i < stranger->length; i++)
		snprintf(said + 2 * i, 3, "%02x", stranger->said[i]);
	log_warning("a stranger at %s from %s is sent away: %s%s%s (%d more since the last one told)",
				stranger->address, stranger->peer, why, stranger->length > 0 ? ", it said " : "",
				said, strangers->untold);
	strangers->told_us = now_us;
	strangers->untold = 0;
}

/* Remembers somebody who was sent away. */
void
stranger_note(SmStrangers *strangers, const char *address, const char *peer, const uint8_t *bytes,
			  int length, const char *why)
{
	SmStranger stranger = {0};
	SmStranger *entry;

	snprintf(stranger.address, sizeof(stranger.address), "%s", address);
	snprintf(stranger.peer, sizeof(stranger.peer), "%s", peer);
	stranger.length = length < STRANGER_SHOWN ? length : STRANGER_SHOWN;
	memcpy(stranger.said, bytes, (size_t) stranger.length);
	entry = stranger_find(strangers, &stranger);
	entry->times++;
	entry->seen_us = base_now_us();
	stranger_log(strangers, entry, why);
}
