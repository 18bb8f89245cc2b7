/* dlt_item.h - what the data items of both versions share */
#ifndef DLT_ITEM_H
#define DLT_ITEM_H

#include "dlt.h"

/* How a measurement is shown. */
typedef struct SmShow
{
	int kind;
	int bytes;
	int64_t divide; /* the farm's unit by the last digit's */
	bool has_total;
} SmShow;

extern void dlt_item_show(const SmMeter *meter, const SmSnapshot *snapshot, const SmShow *show,
						  int phase, uint8_t *to);
extern int dlt_item_clock(const SmMeter *meter, int item, uint8_t *to);
extern int dlt_item_identity(const SmMeter *meter, int item, uint8_t *to);
extern int dlt_item_empty(const SmMeter *meter, int length, uint8_t *to);

#endif
