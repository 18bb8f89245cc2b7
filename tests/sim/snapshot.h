/* snapshot.h - what a meter measures at one moment */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "farm.h"

extern int64_t snapshot_reactive_energy(const SmMeter *meter, int64_t active);
extern void snapshot_take(SmMeter *meter, SmSnapshot *snapshot);
extern void snapshot_encode(const SmMeter *meter, const SmSnapshot *snapshot, const SmRegister *reg,
							uint16_t *words);

#endif
