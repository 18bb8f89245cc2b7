/*
 * cabinet_read.c - read: the values of a model, or registers and data items as they are
 */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cabinet.h"
#include "dlt645_item.h"

#define READ_TIMEOUT_MS 1000
#define READ_TIMEOUT_DLT_MS 2000

static int
read_timeout(const SmCabinet *cabinet, SmProtocol protocol)
{
	if (cabinet->timeout_ms > 0)
		return (int) cabinet->timeout_ms;
	return protocol == PROTOCOL_MODBUS ? READ_TIMEOUT_MS : READ_TIMEOUT_DLT_MS;
}

/*
 * Asks for all points of a model the way the poller does, splitting what is refused. Returns how
 * many questions in the end came to nothing, -1 when the connection is lost.
 */
int
cabinet_ask_model(SmPort *port, const SmModel *model, const SmTarget *target, SmValues *values,
				  bool complain)
{
	SmBlock *queue = base_alloc((size_t) (2 * model->point_count + 1) * sizeof(SmBlock));
	SmBlock *parts = base_alloc((size_t) (model->point_count + 1) * sizeof(SmBlock));
	SmPortOutcome outcome = PORT_GOOD;
	SmRequest request;
	SmTaken taken;
	int waiting = model->block_count;
	int failed = 0;

	memset(values, 0, sizeof(*values));
	memcpy(queue, model->blocks, (size_t) waiting * sizeof(SmBlock));
	while (waiting > 0 && outcome != PORT_LOST)
	{
		SmBlock block = queue[--waiting];
		int count = 0;

		if (!coalesce_request(target, &block, &request))
			continue;
		outcome = port_ask(port, &request, port->timeout_ms);
		/* One answer may be lost; a read does no harm twice. */
		if (outcome == PORT_SILENT)
			outcome = port_ask(port, &request, port->timeout_ms);
		if (outcome == PORT_GOOD)
		{
			coalesce_take(model->points, &block, &request, port->join.data, port->join.length,
						  values, &taken);
			continue;
		}
		if (outcome == PORT_REFUSED && port->result.refusal == REFUSAL_NO_DATA)
			count = coalesce_split(model->points, &block, parts);
		memcpy(queue + waiting, parts, (size_t) count * sizeof(SmBlock));
		waiting += count;
		failed += count == 0;
		if (count == 0 && complain)
			cabinet_say("%s: %s", point_metric_name(model->points[block.first].metric),
						port_outcome_text(port, outcome));
		/* Nobody there: the rest would only take as long. */
		if (outcome == PORT_SILENT && values->present == 0)
			break;
		if (model->turnaround_ms > 0)
			usleep((useconds_t) model->turnaround_ms * 1000);
	}
	free(queue);
	free(parts);
	return outcome == PORT_LOST ? -1 : failed;
}

void
cabinet_print_values(const SmValues *values)
{
	char text[64];
	int metric;

	for (metric = 0; metric < METRIC_COUNT; metric++)
	{
		if (!point_has(values, (SmMetric) metric))
			continue;
		cabinet_format(values, (SmMetric) metric, text, sizeof(text));
		printf("%-14s %s\n", point_metric_name((SmMetric) metric), text);
	}
	fflush(stdout);
}

/* Reads a model once, or again and again every so many seconds. */
static int
read_model(const SmCabinet *cabinet, int times)
{
	SmCatalogue catalogue = {0};
	const SmCabinetModel *found = cabinet_find_model(cabinet, &catalogue);
	SmPort port = {0};
	SmTarget target;
	SmValues values;
	int status = CABINET_USAGE;
	int failed = 0;
	int i;

	if (found == NULL || !cabinet_target(cabinet, found->model.protocol, &target))
		goto done;
	status = CABINET_BAD;
	if (!cabinet_open(cabinet, found->model.protocol, &port))
		goto done;
	port.timeout_ms = read_timeout(cabinet, found->model.protocol);
	for (i = 0; i < times; i++)
	{
		if (i > 0)
			sleep((unsigned) cabinet->every_s);
		failed = cabinet_ask_model(&port, &found->model, &target, &values, true);
		if (failed < 0)
			cabinet_say("%s: %s", cabinet->address, port.why);
		cabinet_print_values(&values);
		status = failed == 0 && values.present != 0 ? CABINET_GOOD : CABINET_BAD;
	}
done:
	port_close(&port);
	catalogue_free(&catalogue);
	return status;
}

static void
read_print_words(int address, const uint16_t *words, int count)
{
	int i;

	for (i = 0; i < count; i++)
		printf("%5d  0x%04X  0x%04X  %5u  %6d\n", address + i, (unsigned) (address + i), words[i],
			   words[i], (int16_t) words[i]);
}

/* Reads registers or bits with our own codec. */
static int
read_registers(const SmCabinet *cabinet)
{
	SmPort port = {0};
	SmPortOutcome outcome;
	SmRequest request;
	SmTarget target;
	uint16_t words[MBAP_READ_MAX];
	int status = CABINET_BAD;

	if (!cabinet_target(cabinet, PROTOCOL_MODBUS, &target))
		return CABINET_USAGE;
	if (!mbap_build_read(&request, target.unit, (int) cabinet->function, (int) cabinet->first,
						 (int) cabinet->count))
		return cabinet_usage("the registers go beyond 65535");
	if (cabinet_open(cabinet, PROTOCOL_MODBUS, &port))
	{
		outcome = port_ask(&port, &request, read_timeout(cabinet, PROTOCOL_MODBUS));
		if (outcome == PORT_GOOD)
		{
			read_print_words((int) cabinet->first, words,
							 mbap_words(&request, port.join.data, words));
			status = CABINET_GOOD;
		}
		else
			cabinet_say("unit %s: %s", cabinet->unit, port_outcome_text(&port, outcome));
	}
	port_close(&port);
	return status;
}

/* Prints the data of an item: its values, and the bytes. */
static void
read_print_item(uint32_t di, int di_bytes, const uint8_t *data, int length)
{
	static const int64_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000};
	SmDltItem item = dlt645_item(di, di_bytes);
	SmDltValue values[DLT645_VALUES_MAX];
	char text[DLT645_TEXT_MAX] = "";
	const char *why = NULL;
	int count = 0;
	int i;

	if (item.kind == DLT645_BCD || item.kind == DLT645_BITS)
		count = dlt645_values(&item, data, length, values, DLT645_VALUES_MAX, &why);
	else
		dlt645_text(&item, data, length, text, sizeof(text), &why);
	printf("%0*X ", di_bytes * 2, (unsigned) di);
	for (i = 0; i < count; i++)
	{
		if (values[i].absent)
			printf(" -");
		else if (item.kind == DLT645_BITS)
			printf(" 0x%0*llX", item.bytes * 2, (unsigned long long) values[i].value);
		else
			printf(" %.*f", item.decimals,
				   (double) values[i].value / (double) powers[item.decimals]);
	}
	printf("%s%s %s  (", text[0] != '\0' ? " " : "", text, item.unit);
	for (i = 0; i < length; i++)
		printf("%s%02X", i > 0 ? " " : "", data[i]);
	printf(")\n");
	if (why != NULL)
		cabinet_say("%0*X: %s", di_bytes * 2, (unsigned) di, why);
}

/* Reads one data item of DL/T 645; four digits are 1997, eight 2007. */
static int
read_item(const SmCabinet *cabinet)
{
	SmProtocol protocol = strlen(cabinet->di) == 4 ? PROTOCOL_DLT645_1997 : PROTOCOL_DLT645_2007;
	SmPort port = {0};
	SmPortOutcome outcome;
	SmRequest request;
	SmTarget target;
	uint32_t di;
	int status = CABINET_BAD;

	if (!dlt645_parse_di(protocol, cabinet->di, &di))
		return cabinet_usage("--di is not 4 or 8 hexadecimal digits");
	if (!cabinet_target(cabinet, protocol, &target))
		return CABINET_USAGE;
	dlt645_build_read(&request, &target, di);
	if (cabinet_open(cabinet, protocol, &port))
	{
		outcome = port_ask(&port, &request, read_timeout(cabinet, protocol));
		if (outcome == PORT_GOOD)
		{
			read_print_item(di, (int) strlen(cabinet->di) / 2, port.join.data, port.join.length);
			status = CABINET_GOOD;
		}
		else
			cabinet_say("meter %s: %s", cabinet->unit, port_outcome_text(&port, outcome));
	}
	port_close(&port);
	return status;
}

/* Reads with libmodbus into words, bits as 0 and 1; the number read, or -1. */
static int
read_ask_libmodbus(modbus_t *bus, const SmCabinet *cabinet, uint16_t *words)
{
	uint8_t bits[MBAP_READ_MAX];
	int address = (int) cabinet->first;
	int count = (int) cabinet->count;
	int got;
	int i;

	if (cabinet->function == 3)
		return modbus_read_registers(bus, address, count, words);
	if (cabinet->function == 4)
		return modbus_read_input_registers(bus, address, count, words);
	got = cabinet->function == 1 ? modbus_read_bits(bus, address, count, bits)
								 : modbus_read_input_bits(bus, address, count, bits);
	for (i = 0; i < got; i++)
		words[i] = bits[i];
	return got;
}

static modbus_t *
read_new_libmodbus(const SmRoute *route)
{
	if (route->kind == ROUTE_SERIAL)
		return modbus_new_rtu(route->host, route->line.baud, route->line.parity, route->line.bits,
							  route->line.stop);
	return modbus_new_tcp_pi(route->host, route->port);
}

/* Reads with libmodbus: a second implementation tells whose mistake it is when a meter is odd. */
static int
read_libmodbus(const SmCabinet *cabinet)
{
	bool serial = cabinet->address[0] == '/';
	SmRouteText text = {.transport = serial ? "rtu" : "modbus-tcp", .address = cabinet->address};
	uint32_t timeout_ms = (uint32_t) read_timeout(cabinet, PROTOCOL_MODBUS);
	uint16_t words[MBAP_READ_MAX];
	modbus_t *bus = NULL;
	const char *why;
	SmTarget target;
	SmRoute route;
	int got = -1;

	if (!cabinet_target(cabinet, PROTOCOL_MODBUS, &target))
		return CABINET_USAGE;
	if (cabinet->wire != NULL && strcmp(cabinet->wire, "rtu") == 0 && !serial)
		return cabinet_usage("libmodbus cannot do RTU over TCP");
	if (!route_parse(&text, &route, &why))
		return cabinet_usage("%s", why);
	bus = read_new_libmodbus(&route);
	if (bus == NULL || modbus_set_slave(bus, target.unit) != 0 ||
		modbus_set_response_timeout(bus, timeout_ms / 1000, timeout_ms % 1000 * 1000) != 0 ||
		modbus_connect(bus) != 0)
		cabinet_say("%s: %s", cabinet->address, modbus_strerror(errno));
	else if ((got = read_ask_libmodbus(bus, cabinet, words)) < 0)
		cabinet_say("unit %d: %s", target.unit, modbus_strerror(errno));
	if (bus != NULL)
	{
		modbus_close(bus);
		modbus_free(bus);
	}
	route_free(&route);
	read_print_words((int) cabinet->first, words, got);
	return got < 0 ? CABINET_BAD : CABINET_GOOD;
}

int
cabinet_read(const SmCabinet *cabinet)
{
	int ways = (cabinet->model != NULL) + (cabinet->first >= 0) + (cabinet->di != NULL);

	if (ways != 1)
		return cabinet_usage("read wants one of --model, --register and --di");
	if (cabinet->libmodbus && cabinet->first < 0)
		return cabinet_usage("--libmodbus goes with --register");
	if (cabinet->first + cabinet->count > 65536)
		return cabinet_usage("the registers go beyond 65535");
	if (cabinet->model != NULL)
		return read_model(cabinet, 1);
	if (cabinet->di != NULL)
		return read_item(cabinet);
	return cabinet->libmodbus ? read_libmodbus(cabinet) : read_registers(cabinet);
}

/* Polls a model and shows the frames. */
int
cabinet_watch_model(const SmCabinet *cabinet)
{
	return read_model(cabinet, cabinet->count > 1 ? (int) cabinet->count : 1);
}
