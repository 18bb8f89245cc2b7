/*
 * wire.c - the limit the poller is compared with: a bare libmodbus loop on one connection.
 *
 *	wire HOST PORT reads UNITS SECONDS			registers 10-26 of unit 1..UNITS in turn; reads per second
 *	wire HOST PORT switch UNIT COUNT			relay read, write and read back; p99 in milliseconds
 */
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_REGISTER 10
#define N_REGISTERS 17
#define RELAY_REGISTER 26

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
fail(const char *what)
{
	fprintf(stderr, "wire: %s: %s\n", what, modbus_strerror(errno));
	exit(1);
}

static double
reads_per_second(modbus_t *bus, int units, double seconds)
{
	uint16_t registers[N_REGISTERS];
	double begin = now_s();
	long done = 0;

	while (now_s() - begin < seconds)
	{
		modbus_set_slave(bus, 1 + (int) (done % units));
		if (modbus_read_registers(bus, FIRST_REGISTER, N_REGISTERS, registers) != N_REGISTERS)
			fail("read");
		done++;
	}
	return (double) done / (now_s() - begin);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

static double
switch_p99_ms(modbus_t *bus, int unit, int count)
{
	double *took = malloc(sizeof(double) * (size_t) count);
	double p99;

	if (took == NULL)
		fail("memory");
	modbus_set_slave(bus, unit);
	for (int i = 0; i < count; i++)
	{
		uint16_t relay;
		uint16_t wanted = (uint16_t) (i % 2);
		double begin = now_s();

		if (modbus_read_registers(bus, RELAY_REGISTER, 1, &relay) != 1)
			fail("read");
		if (modbus_write_registers(bus, RELAY_REGISTER, 1, &wanted) != 1)
			fail("write");
		do
		{
			if (modbus_read_registers(bus, RELAY_REGISTER, 1, &relay) != 1)
				fail("read back");
		} while (relay != wanted);
		took[i] = (now_s() - begin) * 1000;
	}
	qsort(took, (size_t) count, sizeof(double), compare);
	p99 = took[(count * 99) / 100];
	free(took);
	return p99;
}

int
main(int argc, char **argv)
{
	modbus_t *bus;

	if (argc != 6)
	{
		fprintf(stderr, "usage: wire HOST PORT reads UNITS SECONDS | switch UNIT COUNT\n");
		return 2;
	}
	bus = modbus_new_tcp(argv[1], atoi(argv[2]));
	if (bus == NULL || modbus_connect(bus) != 0)
		fail("connect");
	modbus_set_response_timeout(bus, 2, 0);
	if (strcmp(argv[3], "reads") == 0)
		printf("%.1f\n", reads_per_second(bus, atoi(argv[4]), atof(argv[5])));
	else
		printf("%.3f\n", switch_p99_ms(bus, atoi(argv[4]), atoi(argv[5])));
	modbus_close(bus);
	modbus_free(bus);
	return 0;
}
