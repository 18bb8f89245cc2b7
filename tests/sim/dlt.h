/* dlt.h - DL/T 645 meters: frames, addresses, settings */
#ifndef DLT_H
#define DLT_H

#include "command.h"
#include "fault.h"
#include "history.h"
#include "net.h"

#define DLT_DATA_MAX 200
#define DLT_FRAME_MAX (DLT_DATA_MAX + 12)
#define DLT_ITEM_MAX 512
#define DLT_TARIFFS 4

#define DLT_OTHER_ERROR 0x01
#define DLT_NO_DATA 0x02
#define DLT_NOT_ALLOWED 0x04

/* What an empty place of the memory reads as. */
typedef enum SmEmpty
{
	EMPTY_ERROR,
	EMPTY_ZERO,
	EMPTY_FF
} SmEmpty;

/* What only a DL/T 645 meter has. */
typedef struct SmDlt
{
	int64_t password; /* six digits */
	int64_t level;    /* PA */
	int64_t wrong_passwords;
	int64_t locked_until_ns; /* simulated time */
	bool blocks;
	bool separators;
	bool checks_validity;
	bool broadcast_time; /* obeys broadcasts */
	int64_t frame_bytes; /* most data in an answer */
	int64_t preamble;
	int64_t prepaid_wh; /* < 0 = no prepaid meter */
	int tou[DLT_TARIFFS];
	SmEmpty empty;
	bool keep;
	bool alarm;
	bool wants_key;    /* closing is permitted, somebody has to press the key */
	bool ordered_open; /* what the last command wanted */
	int64_t trips;
	int64_t closes;
	int64_t synced_day; /* the day of the last broadcast that was obeyed */
	int64_t clock_sets;
	int rest_length; /* of a long answer, what follow-up frames will carry */
	int rest_at;
	int rest_sequence;
	uint8_t rest_di[4];
	uint8_t rest[DLT_ITEM_MAX];
} SmDlt;

/* A request to one meter and its answer, without the frame and the +33. */
typedef struct SmTalk
{
	uint8_t control;
	const uint8_t *data;
	int length;
	const SmTwist *twist;
	uint8_t answer_control;
	uint8_t answer[DLT_DATA_MAX + 8];
	int answer_length;
	char note[WRITE_TEXT - 48]; /* what a write wanted, for the log */
} SmTalk;

extern void dlt_create(SmMeter *meter);
extern bool dlt_set(SmMeter *meter, const char *key, const char *value);
extern void dlt_describe(const SmMeter *meter, SmAnswer *answer);
extern bool dlt_press_key(SmMeter *meter);
extern void dlt_cut(SmConnection *connection);
extern bool dlt_exchange(SmConnection *connection, const uint8_t *frame, int length, SmPlan *plan,
						 SmReply *reply);
extern int dlt_find(const uint8_t *bytes, int length, int *skip);

extern void dlt_bcd(uint8_t *to, int bytes, int64_t value);
extern bool dlt_from_bcd(const uint8_t *from, int bytes, int64_t *value);
extern void dlt_time(int64_t clock_s, uint8_t *seconds_up);
extern bool dlt_parse_time(const uint8_t *seconds_up, int64_t *clock_s);

extern bool dlt_refuse(SmTalk *talk, uint8_t error);
extern void dlt_note_request(const SmMeter *meter, SmTalk *talk);
extern bool dlt_control_2007(SmMeter *meter, SmTalk *talk);
extern bool dlt_control_1997(SmMeter *meter, SmTalk *talk);
extern void dlt_set_clock(SmMeter *meter, int64_t clock_s);
extern bool dlt_broadcast(SmMeter *meter, SmTalk *talk);
extern int dlt_item_2007(SmMeter *meter, uint32_t di, uint8_t *to);
extern int dlt_item_1997(SmMeter *meter, uint32_t di, uint8_t *to);
extern int dlt_energy(const SmMeter *meter, const SmRecord *record, int kind, int tariff,
					  uint8_t *to);

#endif
