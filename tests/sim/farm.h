/*
 * farm.h - the types that all rooms of the meter farm share
 *
 * The farm plays electricity meters behind gateways, serial lines and concentrators so that the
 * poller can be tested against real wire traffic. It is written from the descriptions of the
 * protocols and shares no code with the poller: a mistake in one of them must not be hidden by the
 * same mistake in the other.
 *
 * Units: energy in mWh, power in mW, voltage in mV, current in mA, all int64. "mono" is
 * CLOCK_MONOTONIC in ns; "sim" is simulated time in ns since the farm started, which runs
 * speed times as fast. One thread, one epoll loop: nothing is locked.
 */
#ifndef FARM_H
#define FARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define PHASES_MAX 3
#define NAME_SIZE 64
#define ERROR_SIZE 256
#define WRITES_KEPT 16
#define WRITE_WORDS_KEPT 8
#define PDU_MAX 253
#define ADU_MAX 260
#define UNITS 256
#define ANY_UNIT (-1)
#define ADDRESS_BYTES 6 /* of a DL/T 645 meter, lowest digits first */
#define WRITE_TEXT 128
#define PACKET_MAX 128 /* a registration or heartbeat packet */
#define PATH_MOST 128
#define SPEED_MOST 86400 /* a day in a second */

typedef __int128 SmWide;

/* A message for the person who wrote the configuration or the command. */
typedef struct SmError
{
	char text[ERROR_SIZE];
} SmError;

/* What a register holds. Tariff slots and phases are told apart by SmRegister.slot and .phase. */
typedef enum SmQuantity
{
	QUANTITY_IMPORT_ENERGY,
	QUANTITY_EXPORT_ENERGY,
	QUANTITY_TOTAL_ENERGY,
	QUANTITY_IMPORT_REACTIVE,
	QUANTITY_EXPORT_REACTIVE,
	QUANTITY_TOTAL_REACTIVE,
	QUANTITY_VOLTAGE,
	QUANTITY_CURRENT,
	QUANTITY_POWER,
	QUANTITY_EXPORT_POWER,
	QUANTITY_REACTIVE_POWER,
	QUANTITY_APPARENT_POWER,
	QUANTITY_POWER_FACTOR,
	QUANTITY_FREQUENCY,
	QUANTITY_LEAKAGE,
	QUANTITY_TEMPERATURE,
	QUANTITY_PHASE_ANGLE,
	QUANTITY_DISTORTION,
	QUANTITY_RELAY,
	QUANTITY_CT_RATIO,
	QUANTITY_CLOCK_YEAR_MONTH,
	QUANTITY_CLOCK_DAY_HOUR,
	QUANTITY_CLOCK_MINUTE_SECOND,
	QUANTITY_ADDRESS,
	QUANTITY_ADDRESS_AND_BAUD,
	QUANTITY_WORD
} SmQuantity;

typedef enum SmForm
{
	FORM_INTEGER,
	FORM_FLOAT,
	FORM_RAW
} SmForm;

/* Order of the bytes of a value ABCD on the wire. */
typedef enum SmOrder
{
	ORDER_BIG,          /* ABCD */
	ORDER_WORD_SWAPPED, /* CDAB */
	ORDER_BYTE_SWAPPED, /* BADC */
	ORDER_LITTLE        /* DCBA */
} SmOrder;

typedef struct SmEncoding
{
	SmForm form;
	SmOrder order;
	bool is_signed;
	int words;
} SmEncoding;

/* One line "reg" of a model: raw = value * scale_den / scale_num. */
typedef struct SmRegister
{
	int function;
	int address;
	SmEncoding encoding;
	SmQuantity quantity;
	int phase;      /* 0 = whole meter, 1..3 */
	bool slot_idle; /* a tariff slot that this meter's own clock never selects */
	int64_t scale_num;
	int64_t scale_den;
	uint16_t word_initial;
	uint16_t word_open;
	uint16_t word_closed;
	uint16_t word_locked;
} SmRegister;

typedef enum SmWriteKind
{
	WRITE_RELAY,
	WRITE_CLEAR,
	WRITE_STORE
} SmWriteKind;

/* One line "write" of a model. */
typedef struct SmWritable
{
	int function;
	int address;
	int count;
	SmWriteKind kind;
	uint16_t open[WRITE_WORDS_KEPT];
	uint16_t close[WRITE_WORDS_KEPT];
} SmWritable;

/* What is spoken on a port. */
typedef enum SmWire
{
	WIRE_TCP,  /* Modbus TCP */
	WIRE_RTU,  /* Modbus RTU */
	WIRE_DLT,  /* DL/T 645 */
	WIRE_Q376, /* DL/T 645 inside Q/GDW 376.1 */
	WIRE_COUNT
} SmWire;

typedef enum SmProtocol
{
	PROTOCOL_MODBUS,
	PROTOCOL_DLT_2007,
	PROTOCOL_DLT_1997
} SmProtocol;

/* How a port meets its peer. */
typedef enum SmDoor
{
	DOOR_LISTEN,
	DOOR_DIAL, /* the farm connects out */
	DOOR_PTY   /* a serial line */
} SmDoor;

typedef struct SmModel
{
	struct SmModel *next;
	char names[4][NAME_SIZE];
	int name_count;
	SmProtocol protocol;
	bool has_relay; /* DL/T 645 only: obeys trip and close */
	int phases;
	int registers_max; /* most registers in one read */
	bool holes_zero;
	int also_function; /* answers like also_like; 0 = none */
	int also_like;
	SmRegister *registers;
	int register_count;
	SmWritable *writables;
	int writable_count;
} SmModel;

/* A load curve: one column of a file; sums[i] is the energy before slot i. */
typedef struct SmCurve
{
	struct SmCurve *next;
	char name[NAME_SIZE];
	int64_t slot_ns;
	int slot_count;
	int64_t *sums_mwh; /* slot_count + 1 entries */
} SmCurve;

/* A word written to or forced upon a meter, seen instead of the value computed. */
typedef struct SmOverride
{
	struct SmOverride *next;
	int function;
	int address;
	uint16_t word;
} SmOverride;

struct SmFarm;
struct SmDlt;
struct SmHistory;

typedef struct SmMeter
{
	struct SmFarm *farm;
	const SmModel *model;
	int unit; /* Modbus unit, or the place among the DL/T 645 meters of its port */
	uint32_t seed;
	uint8_t address[ADDRESS_BYTES]; /* of a DL/T 645 meter */
	struct SmDlt *dlt;              /* what only such a meter has, else NULL */
	struct SmHistory *history;

	/* load: a curve, or constant power where curve is NULL; both times permille / 1000 / ct */
	const SmCurve *curve;
	int64_t load_mw;
	int64_t load_permille;
	int64_t offset_ns;
	int64_t ct;

	int64_t nominal_mv;
	bool voltage_fixed; /* set by hand: no ripple */
	int64_t power_factor_e4;
	int split_percent[PHASES_MAX];
	bool reversed[PHASES_MAX]; /* the current transformer is the wrong way round */
	int64_t leakage_ma;
	int64_t temperature_mc;
	bool temperature_fixed;
	int64_t clock_offset_s;
	int holes; /* -1 as the model says, 0 refuse, 1 zero */

	/* the counter, exact up to settled_sim_ns */
	int64_t settled_sim_ns;
	int64_t register_mwh;
	int64_t export_mwh;
	int64_t modulus_mwh; /* 0 = none beyond the register's own width */
	int64_t modulus_configured_mwh;
	bool stuck;

	bool relay_closed;
	bool locked;
	int64_t relay_delay_ns;
	bool relay_pending;
	bool relay_pending_closed;
	int64_t relay_due_mono_ns;
	int64_t switchings;

	SmOverride *overrides;
	int64_t requests;
	int64_t reads;
	int64_t writes;
	int64_t refusals;
} SmMeter;

/* All that can be read from a meter at one moment. Index 0 = whole meter, 1..3 = phases. */
typedef struct SmSnapshot
{
	int64_t sim_ns;
	int64_t import_mwh[PHASES_MAX + 1];
	int64_t export_mwh[PHASES_MAX + 1];
	int64_t voltage_mv[PHASES_MAX + 1];
	int64_t current_ma[PHASES_MAX + 1];
	int64_t power_mw[PHASES_MAX + 1];
	int64_t reactive_mvar[PHASES_MAX + 1];
	int64_t apparent_mva[PHASES_MAX + 1];
	int64_t power_factor_e4;
	int64_t frequency_mhz;
	int64_t temperature_mc;
	int64_t leakage_ma;
	bool relay_closed;
	bool reversed[PHASES_MAX + 1];
} SmSnapshot;

/* What the command "log" says about a write. */
typedef struct SmWriteSeen
{
	char text[WRITE_TEXT];
} SmWriteSeen;

struct SmFault;
struct SmConnection;
struct SmDial;
struct SmTls;

/* First member of everything epoll points at. */
typedef enum SmSourceKind
{
	SOURCE_LISTENER,
	SOURCE_CONNECTION,
	SOURCE_CONTROL_LISTENER,
	SOURCE_CONTROL,
	SOURCE_TIMER,
	SOURCE_SIGNAL
} SmSourceKind;

typedef struct SmPort
{
	SmSourceKind source;
	struct SmFarm *farm;
	char name[NAME_SIZE];
	SmDoor door;
	SmWire wire;
	int copy;    /* which one of repeated ports, from 1; else 0 */
	int number;  /* 0 until listening when the system picks */
	int fd;      /* the listening socket, or the far side of a pty; -1 = down */
	bool wanted; /* a dialling port keeps calling */
	char path[PATH_MOST];
	char link[PATH_MOST]; /* a symbolic link to the serial line */
	struct SmDial *dial;
	struct SmTls *tls;
	bool half_open; /* connections stay open and nothing is read from them */
	SmMeter **meters;
	int meter_count;
	SmMeter *units[UNITS]; /* the Modbus meters among them */
	bool absent_silent;    /* no answer for an absent unit instead of exception 0B */
	int64_t latency_ns;
	int64_t baud; /* 0 = no line behind the port */
	int char_bits;
	int64_t wire_ns; /* what the characters of all frames took on the line */
	int64_t busy_until_ns;
	int pending;
	struct SmFault *faults;
	struct SmConnection *connections;
	int connection_count;
	int connections_max; /* further ones are closed at once, as small gateways do; 0 = no limit */
	int64_t connections_seen;
	int connections_most;
	int64_t requests;
	int64_t reads;
	int64_t writes;
	int64_t answers;
	int64_t overlaps; /* requests that came while an answer was still owed */
	int64_t malformed;
	SmWriteSeen writes_seen[WRITES_KEPT];
} SmPort;

typedef struct SmControl
{
	SmSourceKind source;
	struct SmControl *next;
	struct SmFarm *farm;
	int fd;
	bool closed;
	size_t length;
	char buffer[4096];
} SmControl;

typedef struct SmSource
{
	SmSourceKind source;
	struct SmFarm *farm;
	int fd;
} SmSource;

struct SmChunk;

typedef struct SmFarm
{
	SmModel *models;
	SmCurve *curves;
	SmPort **ports;
	int port_count;
	int meter_count;
	int curve_turn; /* next column for curve=NAME:* */

	char control_address[108];
	SmSource control_listener;
	SmControl *controls;
	SmSource timer;
	SmSource signals;
	int epoll_fd;
	bool stopping;

	struct SmChunk **chunks; /* binary heap by due time */
	int chunk_count;
	int chunk_room;
	uint64_t chunk_sequence;
	int64_t armed_ns; /* what the timer is set to, 0 = off */
	struct SmConnection *graveyard;

	int64_t mono_start_ns; /* 0 until the clock starts */
	int64_t mono_base_ns;  /* sim_base_ns belongs to this moment */
	int64_t sim_base_ns;
	int64_t speed_milli;
	int64_t epoch_s; /* wall clock of the meters at sim 0 */
	int64_t zone_s;  /* what the meters' clocks show beyond that */
} SmFarm;

extern int64_t farm_mono_ns(void);
extern int64_t farm_sim_at(const SmFarm *farm, int64_t mono_ns);
extern int64_t farm_sim_now(const SmFarm *farm);
extern bool farm_parse_speed(const char *text, int64_t *speed_milli);
extern void farm_set_speed(SmFarm *farm, int64_t speed_milli);
extern void farm_advance(SmFarm *farm, int64_t sim_ns);
extern SmPort *farm_find_port(const SmFarm *farm, const char *text);
extern SmMeter *farm_find_meter(const SmPort *port, const char *text);
extern void farm_address_text(const uint8_t *address, char *text);
extern bool farm_parse_address(const char *text, uint8_t *address);
extern bool farm_fail(SmError *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void *farm_alloc(size_t size);

#endif
