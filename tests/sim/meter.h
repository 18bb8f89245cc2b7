/* meter.h - one simulated meter: its counter, its relay, its settings */
#ifndef METER_H
#define METER_H

#include "farm.h"

extern SmMeter *meter_create(SmFarm *farm, const SmModel *model, int unit, uint32_t seed);
extern int64_t meter_clock_s(const SmMeter *meter, int64_t sim_ns);
extern void meter_settle(SmMeter *meter, int64_t mono_ns);
extern bool meter_set(SmMeter *meter, const char *key, const char *value, SmError *error);
extern void meter_command(SmMeter *meter, bool closed, int64_t delay_ns);
extern void meter_clear(SmMeter *meter);
extern void meter_store(SmMeter *meter, int function, int address, uint16_t word);
extern bool meter_stored(const SmMeter *meter, int function, int address, uint16_t *word);
extern int64_t meter_load_mw(const SmMeter *meter, int64_t sim_ns);
extern void meter_free(SmMeter *meter);

#endif
