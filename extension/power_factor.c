/*
 * power_factor.c
 *		The adjustment of the fee by the power factor, as published.
 *
 * Source: 功率因数调整电费办法, 水电财字(83)第215号, tables 1 to 3, one per
 * standard: 0.90 for high-voltage industry above 160 kVA, 0.85 for other
 * consumers from 100 kVA, 0.80 for agriculture from 100 kVA.  Below the last
 * row of each table 2 % are added per 0.01.
 *
 * One doubt remains: for the standard 0.85 public implementations disagree
 * where the reward ends.  The rows of 0.94 and above follow the table's own
 * sequence (-1.10 %); at least one implementation stops at -1.00 %.
 *
 * Pure, like rating.c.
 */
#include "rating.h"

#define POWER_FACTOR_FAR_STEP_E4 200

/* from 1.00 downwards, one standard after the other */
static const SmPowerFactorStep power_factor_steps[] = {
	{90, 100, -75}, {90, 99, -75},   {90, 98, -75},   {90, 97, -75},  {90, 96, -75},
	{90, 95, -75},  {90, 94, -60},   {90, 93, -45},   {90, 92, -30},  {90, 91, -15},
	{90, 90, 0},    {90, 89, 50},    {90, 88, 100},   {90, 87, 150},  {90, 86, 200},
	{90, 85, 250},  {90, 84, 300},   {90, 83, 350},   {90, 82, 400},  {90, 81, 450},
	{90, 80, 500},  {90, 79, 550},   {90, 78, 600},   {90, 77, 650},  {90, 76, 700},
	{90, 75, 750},  {90, 74, 800},   {90, 73, 850},   {90, 72, 900},  {90, 71, 950},
	{90, 70, 1000}, {90, 69, 1100},  {90, 68, 1200},  {90, 67, 1300}, {90, 66, 1400},
	{90, 65, 1500}, {85, 100, -110}, {85, 99, -110},  {85, 98, -110}, {85, 97, -110},
	{85, 96, -110}, {85, 95, -110},  {85, 94, -110},  {85, 93, -95},  {85, 92, -80},
	{85, 91, -65},  {85, 90, -50},   {85, 89, -40},   {85, 88, -30},  {85, 87, -20},
	{85, 86, -10},  {85, 85, 0},     {85, 84, 50},    {85, 83, 100},  {85, 82, 150},
	{85, 81, 200},  {85, 80, 250},   {85, 79, 300},   {85, 78, 350},  {85, 77, 400},
	{85, 76, 450},  {85, 75, 500},   {85, 74, 550},   {85, 73, 600},  {85, 72, 650},
	{85, 71, 700},  {85, 70, 750},   {85, 69, 800},   {85, 68, 850},  {85, 67, 900},
	{85, 66, 950},  {85, 65, 1000},  {85, 64, 1100},  {85, 63, 1200}, {85, 62, 1300},
	{85, 61, 1400}, {85, 60, 1500},  {80, 100, -130}, {80, 99, -130}, {80, 98, -130},
	{80, 97, -130}, {80, 96, -130},  {80, 95, -130},  {80, 94, -130}, {80, 93, -130},
	{80, 92, -130}, {80, 91, -115},  {80, 90, -100},  {80, 89, -90},  {80, 88, -80},
	{80, 87, -70},  {80, 86, -60},   {80, 85, -50},   {80, 84, -40},  {80, 83, -30},
	{80, 82, -20},  {80, 81, -10},   {80, 80, 0},     {80, 79, 50},   {80, 78, 100},
	{80, 77, 150},  {80, 76, 200},   {80, 75, 250},   {80, 74, 300},  {80, 73, 350},
	{80, 72, 400},  {80, 71, 450},   {80, 70, 500},   {80, 69, 550},  {80, 68, 600},
	{80, 67, 650},  {80, 66, 700},   {80, 65, 750},   {80, 64, 800},  {80, 63, 850},
	{80, 62, 900},  {80, 61, 950},   {80, 60, 1000},  {80, 59, 1100}, {80, 58, 1200},
	{80, 57, 1300}, {80, 56, 1400},  {80, 55, 1500},
};

/*
 * The rows of all tables, for whoever wants to show or check them.
 */
const SmPowerFactorStep *
power_factor_table(int *n_steps)
{
	*n_steps = (int) (sizeof(power_factor_steps) / sizeof(power_factor_steps[0]));
	return power_factor_steps;
}

/*
 * The average power factor P / sqrt(P^2 + Q^2) in per cent, rounded half up;
 * 0 without active energy, else at least 1.
 *
 * The largest f with (f - 0.5) / 100 <= P / sqrt(P^2 + Q^2) is found without a
 * root: both sides are squared.  Numbers beyond 2^55 Wh lose their last bits
 * before, so that the squares fit.
 */
int
power_factor_of(int64_t active_wh, int64_t reactive_varh)
{
	unsigned __int128 active;
	unsigned __int128 apparent;
	uint64_t p;
	uint64_t q;
	int factor;

	if (active_wh <= 0)
		return 0;
	p = (uint64_t) active_wh;
	q = (reactive_varh < 0) ? -(uint64_t) reactive_varh : (uint64_t) reactive_varh;
	while (p >> 55 != 0 || q >> 55 != 0)
	{
		p >>= 1;
		q >>= 1;
	}
	active = (unsigned __int128) p * p * 40000;
	apparent = (unsigned __int128) p * p + (unsigned __int128) q * q;
	for (factor = 100; factor > 1; factor--)
		if ((unsigned) ((2 * factor - 1) * (2 * factor - 1)) * apparent <= active)
			break;
	return factor;
}

/*
 * By how much the fee changes, in 1e-4 of it: negative is a reward.
 */
int
power_factor_adjustment_e4(int standard, int factor)
{
	int n_steps;
	const SmPowerFactorStep *steps = power_factor_table(&n_steps);
	const SmPowerFactorStep *last = NULL;
	int i;

	for (i = 0; i < n_steps; i++)
	{
		if (steps[i].standard != standard)
			continue;
		if (steps[i].factor == factor)
			return steps[i].adjustment_e4;
		last = &steps[i];
	}
	if (last == NULL || factor > last->factor)
		return 0;
	return last->adjustment_e4 + (last->factor - factor) * POWER_FACTOR_FAR_STEP_E4;
}
