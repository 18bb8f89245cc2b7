/*
 * diagnose.c - commands for a person at a meter cabinet
 *
 * They need no database and run one question at a time, so libmodbus does the talking: a second
 * implementation beside our own, which helps to tell whose mistake it is when a meter is odd.
 */
#include <errno.h>
#include <getopt.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "decode.h"
#include "diagnose.h"
#include "mbap.h"
#include "plan.h"

#define DIAGNOSE_EXIT_USAGE 2

typedef struct SmDiagnoseRead
{
	char *host;
	char *port;
	int64_t unit;
	int64_t function;
	int64_t address;
	int64_t count;
	int64_t timeout_ms;
} SmDiagnoseRead;

/* Whether the command line begins with a command of this file. */
bool
diagnose_wants(int count, char **arguments)
{
	return count > 1 && (strcmp(arguments[1], "read") == 0 || strcmp(arguments[1], "decode") == 0);
}

static int
diagnose_usage(const char *text)
{
	fprintf(stderr, "submeter-poller: %s\nTry \"submeter-poller --help\".\n", text);
	return DIAGNOSE_EXIT_USAGE;
}

/* Parses the options of "read"; NULL when they are good, else what is wrong. */
static const char *
diagnose_parse_read(SmDiagnoseRead *read, int count, char **arguments)
{
	static const struct option known[] = {{"address", required_argument, NULL, 'a'},
										  {"unit", required_argument, NULL, 'u'},
										  {"function", required_argument, NULL, 'f'},
										  {"register", required_argument, NULL, 'r'},
										  {"count", required_argument, NULL, 'c'},
										  {"timeout-ms", required_argument, NULL, 't'},
										  {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(count, arguments, "", known, NULL)) != -1)
	{
		if (option == 'a' && !route_split_address(optarg, &read->host, &read->port))
			return "--address is not host:port";
		if (option == 'u' && !base_parse_int(optarg, 0, 255, &read->unit))
			return "--unit is not 0 to 255";
		if (option == 'f' && !base_parse_int(optarg, 1, 4, &read->function))
			return "--function is not 1 to 4";
		if (option == 'r' && !base_parse_int(optarg, 0, 65535, &read->address))
			return "--register is not 0 to 65535";
		if (option == 'c' && !base_parse_int(optarg, 1, MBAP_READ_MAX, &read->count))
			return "--count is not 1 to 125";
		if (option == 't' && !base_parse_int(optarg, 1, 60000, &read->timeout_ms))
			return "--timeout-ms is not 1 to 60000";
		if (option == '?')
			return "an option is not understood";
	}
	if (read->host == NULL || read->unit < 0 || read->address < 0)
		return "read needs --address, --unit and --register";
	if (read->address + read->count > 65536)
		return "the registers go beyond 65535";
	return NULL;
}

/* Reads with libmodbus into words, bits as 0 and 1; the number read, or -1. */
static int
diagnose_ask(modbus_t *bus, const SmDiagnoseRead *read, uint16_t *words)
{
	uint8_t bits[MBAP_READ_MAX];
	int address = (int) read->address;
	int count = (int) read->count;
	int got;
	int i;

	switch (read->function)
	{
		case 3:
			return modbus_read_registers(bus, address, count, words);
		case 4:
			return modbus_read_input_registers(bus, address, count, words);
		case 1:
			got = modbus_read_bits(bus, address, count, bits);
			break;
		default:
			got = modbus_read_input_bits(bus, address, count, bits);
	}
	for (i = 0; i < got; i++)
		words[i] = bits[i];
	return got;
}

static int
diagnose_talk(const SmDiagnoseRead *read)
{
	modbus_t *bus = modbus_new_tcp_pi(read->host, read->port);
	uint16_t words[MBAP_READ_MAX];
	int got = -1;
	int i;

	if (bus == NULL || modbus_set_slave(bus, (int) read->unit) != 0 ||
		modbus_set_response_timeout(bus, (uint32_t) (read->timeout_ms / 1000),
									(uint32_t) (read->timeout_ms % 1000) * 1000) != 0)
		fprintf(stderr, "submeter-poller: %s\n", modbus_strerror(errno));
	else if (modbus_connect(bus) != 0)
		fprintf(stderr, "submeter-poller: could not connect to %s:%s: %s\n", read->host, read->port,
				modbus_strerror(errno));
	else
	{
		got = diagnose_ask(bus, read, words);
		if (got < 0)
			fprintf(stderr, "submeter-poller: unit %d: %s\n", (int) read->unit,
					modbus_strerror(errno));
		modbus_close(bus);
	}
	modbus_free(bus);
	for (i = 0; i < got; i++)
		printf("%5d  0x%04X  0x%04X  %5u  %6d\n", (int) read->address + i, (int) read->address + i,
			   words[i], words[i], (int16_t) words[i]);
	return got < 0 ? 1 : 0;
}

static int
diagnose_read(int count, char **arguments)
{
	SmDiagnoseRead read = {NULL, NULL, -1, 3, -1, 1, 1000};
	const char *wrong = diagnose_parse_read(&read, count, arguments);
	int status = wrong != NULL ? diagnose_usage(wrong) : diagnose_talk(&read);

	free(read.host);
	free(read.port);
	return status;
}

/* Runs a command of this file; returns the exit status. */
int
diagnose_main(int count, char **arguments)
{
	if (strcmp(arguments[1], "read") == 0)
		return diagnose_read(count - 1, arguments + 1);
	return decode_main(count, arguments);
}
