/*
 * tariff_json.c
 *		Reading a tariff definition: typed members of jsonb, or one clear error.
 *
 * Every function takes the place it reads from as a path from the root, $, and
 * refuses what is not as it should be with that path and a hint what to write.
 * Errors leave through ereport, so callers work in a memory context that goes
 * away with the call and free nothing.  No table is read, no lock taken.
 */
#include "module.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "rating.h"
#include "tariff_json.h"

#define TARIFF_SHOWN_BYTES 60

/*
 * Refuse the document a path begins with, $ for a tariff definition, else the
 * name of an argument: problem completes the sentence that begins with the
 * path.
 */
void
tariff_refuse(const char *path, const char *problem, const char *hint)
{
	const char *document = "tariff definition";

	if (*path != '$')
		document = psprintf("argument %.*s", (int) strcspn(path, ".["), path);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", document),
					errdetail("%s %s.", path, problem), errhint("%s", hint)));
}

/*
 * The path of a member of an object, quoted when it is not a plain word and
 * clipped when it is long.  Palloc'ed.
 */
char *
tariff_key_path(const char *path, const char *key, int length)
{
	StringInfoData quoted;
	char *word;

	length = pg_mbcliplen(key, length, TARIFF_SHOWN_BYTES);
	word = pnstrdup(key, length);
	if (length > 0 && strspn(word, "abcdefghijklmnopqrstuvwxyz_0123456789") == (size_t) length)
		return psprintf("%s.%s", path, word);
	initStringInfo(&quoted);
	escape_json(&quoted, word);
	return psprintf("%s.%s", path, quoted.data);
}

/*
 * Refuse keys that are not in the list.
 */
void
tariff_check_keys(JsonbContainer *object, const char *path, const char *const *known)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue value;

	token = JsonbIteratorNext(&iterator, &value, false);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		const char *const *key = known;
		char *place;

		if (token != WJB_KEY)
			continue;
		place = tariff_key_path(path, value.val.string.val, value.val.string.len);
		while (*key != NULL && (strlen(*key) != (size_t) value.val.string.len ||
								memcmp(*key, value.val.string.val, value.val.string.len) != 0))
			key++;
		if (*key == NULL)
			tariff_refuse(place, "is not a known key",
						  (*path == '$')
							  ? "Check the spelling; submeter.tariff_schema() lists the keys."
							  : "Check the spelling.");
		pfree(place);
	}
}

/*
 * A member of an object, or NULL.
 */
JsonbValue *
tariff_member(JsonbContainer *object, const char *key)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

/*
 * A member that must be there.
 */
JsonbValue *
tariff_required(JsonbContainer *object, const char *path, const char *key, const char *hint)
{
	JsonbValue *value = tariff_member(object, key);

	if (value == NULL)
		tariff_refuse(psprintf("%s.%s", path, key), "is missing", hint);
	return value;
}

/*
 * The container of a value that must be an object with known keys only.
 */
JsonbContainer *
tariff_object(JsonbValue *value, const char *path, const char *const *known, const char *hint)
{
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		tariff_refuse(path, "is not an object", hint);
	tariff_check_keys(value->val.binary.data, path, known);
	return value->val.binary.data;
}

/*
 * The container of a value that must be an array of 1 to most elements.
 */
JsonbContainer *
tariff_array(JsonbValue *value, const char *path, int most, const char *hint)
{
	JsonbContainer *array = value->val.binary.data;

	if (value->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		tariff_refuse(path, "is not an array", hint);
	if (JsonContainerSize(array) == 0)
		tariff_refuse(path, "is empty", hint);
	if (JsonContainerSize(array) > (uint32) most)
		tariff_refuse(path, psprintf("has more than %d elements", most), hint);
	return array;
}

/*
 * A value that must be a number, in units of 10^-scale, from 0 to limit.
 */
int64
tariff_number(JsonbValue *value, const char *path, int scale, int64 limit, const char *hint)
{
	char shown[SM_RATING_TEXT_SIZE];
	char *text;
	int64 result = 0;

	if (value->type != jbvNumeric)
		tariff_refuse(path, "is not a number", hint);
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	switch (rating_parse_decimal(text, scale, limit, &result))
	{
		case SM_DECIMAL_OK:
			break;
		case SM_DECIMAL_NOT_A_NUMBER:
			tariff_refuse(path, "is not a finite number", hint);
			break;
		case SM_DECIMAL_NEGATIVE:
			tariff_refuse(path, "is negative", hint);
			break;
		case SM_DECIMAL_TOO_LARGE:
			tariff_refuse(
				path,
				psprintf("is larger than %s", rating_format(limit, scale, 0, shown, sizeof(shown))),
				hint);
			break;
		case SM_DECIMAL_TOO_FINE:
			if (scale == 0)
				tariff_refuse(path, "is not a whole number", hint);
			tariff_refuse(path, psprintf("has more than %d decimals", scale), hint);
			break;
	}
	pfree(text);
	return result;
}

/*
 * Match a text value with a list of words; the result is its place in it.
 */
int
tariff_word(JsonbValue *value, const char *path, const char *const *words, const char *hint)
{
	int i;

	if (value->type != jbvString)
		tariff_refuse(path, "is not a text", hint);
	for (i = 0; words[i] != NULL; i++)
		if (strlen(words[i]) == (size_t) value->val.string.len &&
			memcmp(words[i], value->val.string.val, value->val.string.len) == 0)
			return i;
	tariff_refuse(path, "is not one of the known words", hint);
}

/*
 * A value that must be a text.  Palloc'ed.
 */
char *
tariff_text(JsonbValue *value, const char *path, const char *hint)
{
	if (value->type != jbvString)
		tariff_refuse(path, "is not a text", hint);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * A value that must be a name: not blank, short enough to keep.  Palloc'ed.
 */
char *
tariff_name(JsonbValue *value, const char *path, const char *hint)
{
	char *name = tariff_text(value, path, hint);

	if (name[strspn(name, " \t\r\n")] == '\0')
		tariff_refuse(path, "is blank", hint);
	if (strlen(name) >= SM_NAME_SIZE)
		tariff_refuse(path, psprintf("is longer than %d bytes", SM_NAME_SIZE - 1), hint);
	return name;
}

/*
 * A value that must be true or false.
 */
bool
tariff_boolean(JsonbValue *value, const char *path)
{
	if (value->type != jbvBool)
		tariff_refuse(path, "is not true or false", "Write true or false, without quotes.");
	return value->val.boolean;
}

/*
 * Two numbers of two digits with a sign between them; false for anything else.
 */
static bool
tariff_two_numbers(const char *text, char between, int *first, int *second)
{
	static const char *const digits = "0123456789";

	if (strlen(text) != 5 || strspn(text, digits) != 2 || text[2] != between ||
		strspn(text + 3, digits) != 2)
		return false;
	*first = (text[0] - '0') * 10 + text[1] - '0';
	*second = (text[3] - '0') * 10 + text[4] - '0';
	return true;
}

/*
 * A value that must be a time of day on a full minute, as minutes from
 * midnight; 24:00 only where a window ends.
 */
int
tariff_minute(JsonbValue *value, const char *path, bool end_of_day)
{
	const char *hint = end_of_day ? "Write a time of day such as \"19:00\", up to \"24:00\"."
								  : "Write a time of day such as \"08:30\", before \"24:00\".";
	char *text = tariff_text(value, path, hint);
	int hour;
	int minute;

	if (!tariff_two_numbers(text, ':', &hour, &minute) || minute > 59 ||
		hour * 60 + minute > SM_DAY_MINUTES - (end_of_day ? 0 : 1))
		tariff_refuse(path, "is not a time of day on a full minute", hint);
	return hour * 60 + minute;
}

/*
 * A value that must be a day of any year, as month x 100 + day.
 */
int
tariff_mmdd(JsonbValue *value, const char *path)
{
	static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	const char *hint = "Write month and day, such as \"05-01\".";
	char *text = tariff_text(value, path, hint);
	int month;
	int day;

	if (!tariff_two_numbers(text, '-', &month, &day) || month < 1 || month > 12 || day < 1 ||
		day > month_days[month - 1])
		tariff_refuse(path, "is not a day of the year", hint);
	return month * 100 + day;
}
