/*
 * farm.c - time, and the few helpers that every room needs
 *
 * Simulated time runs speed times as fast as CLOCK_MONOTONIC. Changing the speed, or jumping ahead,
 * first brings every meter up to date, so that the energy of the time before is counted at the
 * speed of that time.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "farm.h"
#include "meter.h"
#include "parse.h"

#define SIM_MOST_NS INT64_C(4000000000000000000) /* a century: further on time stands still */

/* Reads the monotonic clock. */
int64_t
farm_mono_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Simulated time at a monotonic moment, under the present speed; 0 until the clock starts. */
int64_t
farm_sim_at(const SmFarm *farm, int64_t mono_ns)
{
	SmWide elapsed_ns = mono_ns - farm->mono_base_ns;
	SmWide sim_ns = farm->sim_base_ns + elapsed_ns * farm->speed_milli / 1000;

	if (farm->mono_start_ns == 0)
		return 0;
	return sim_ns > SIM_MOST_NS ? SIM_MOST_NS : (int64_t) sim_ns;
}

/* Simulated time now. */
int64_t
farm_sim_now(const SmFarm *farm)
{
	return farm_sim_at(farm, farm_mono_ns());
}

/* Counts all meters up to a moment. */
static void
farm_settle_all(SmFarm *farm, int64_t mono_ns)
{
	int port;
	int i;

	for (port = 0; port < farm->port_count; port++)
		for (i = 0; i < farm->ports[port]->meter_count; i++)
			meter_settle(farm->ports[port]->meters[i], mono_ns);
}

/* Reads a speed, 1 being real time. */
bool
farm_parse_speed(const char *text, int64_t *speed_milli)
{
	return parse_fixed(text, 3, speed_milli) && *speed_milli >= 0 &&
		   *speed_milli <= SPEED_MOST * INT64_C(1000);
}

/* Changes how fast simulated time runs; 1000 is real time, 0 stands still. */
void
farm_set_speed(SmFarm *farm, int64_t speed_milli)
{
	int64_t now_ns = farm_mono_ns();

	farm_settle_all(farm, now_ns);
	farm->sim_base_ns = farm_sim_at(farm, now_ns);
	farm->mono_base_ns = now_ns;
	farm->speed_milli = speed_milli;
}

/* Lets simulated time jump ahead. */
void
farm_advance(SmFarm *farm, int64_t sim_ns)
{
	farm_settle_all(farm, farm_mono_ns());
	if (sim_ns <= SIM_MOST_NS - farm->sim_base_ns)
		farm->sim_base_ns += sim_ns;
}

/* Finds a port by its name or by the number it listens on; NULL when there is none. */
SmPort *
farm_find_port(const SmFarm *farm, const char *text)
{
	int64_t number;
	int i;

	for (i = 0; i < farm->port_count; i++)
		if (strcmp(farm->ports[i]->name, text) == 0)
			return farm->ports[i];
	if (!parse_integer(text, 1, 65535, &number))
		return NULL;
	for (i = 0; i < farm->port_count; i++)
		if (farm->ports[i]->number == number)
			return farm->ports[i];
	return NULL;
}

/* Writes a DL/T 645 address as its 12 digits; text has room for 13 bytes. */
void
farm_address_text(const uint8_t *address, char *text)
{
	int i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02X", address[ADDRESS_BYTES - 1 - i]);
}

/* Reads a DL/T 645 address of up to 12 digits, missing ones being zeros in front. */
bool
farm_parse_address(const char *text, uint8_t *address)
{
	size_t length = strlen(text);
	size_t i;

	memset(address, 0, ADDRESS_BYTES);
	if (length < 1 || length > 2 * ADDRESS_BYTES || strspn(text, "0123456789") != length)
		return false;
	for (i = 0; i < length; i++)
		address[i / 2] |= (uint8_t) ((text[length - 1 - i] - '0') << (i % 2 == 0 ? 0 : 4));
	return true;
}

/* Finds a meter of a port by its unit or its DL/T 645 address; NULL when there is none. */
SmMeter *
farm_find_meter(const SmPort *port, const char *text)
{
	uint8_t address[ADDRESS_BYTES];
	int64_t unit;
	int i;

	if (port->wire == WIRE_TCP || port->wire == WIRE_RTU)
		return parse_integer(text, 0, UNITS - 1, &unit) ? port->units[unit] : NULL;
	if (!farm_parse_address(text, address))
		return NULL;
	for (i = 0; i < port->meter_count; i++)
		if (memcmp(port->meters[i]->address, address, ADDRESS_BYTES) == 0)
			return port->meters[i];
	return NULL;
}

/* Writes a message and returns false, for "return farm_fail(...)". */
bool
farm_fail(SmError *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return false;
}

/* Allocates zeroed memory or ends the program: a test tool has nothing better to do then. */
void *
farm_alloc(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL)
		abort();
	return memory;
}
