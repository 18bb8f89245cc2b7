/*
 * certificate.c - SQL functions about certificates a provider hands out while it is running
 *
 * What is checked and how is crypto_chain.c's business; here are only values and errors.
 */
#include "module.h"

#include "datatype/timestamp.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "crypto.h"

#define UNIX_EPOCH_S ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

SM_FUNCTION(submeter_trusted_cert);

/*
 * submeter.trusted_cert(cert_pem, roots_pem, as_of)
 */
Datum
submeter_trusted_cert(PG_FUNCTION_ARGS)
{
	text *cert = PG_GETARG_TEXT_PP(0);
	text *roots = PG_GETARG_TEXT_PP(1);
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(2);
	char *pem = palloc(CRYPTO_CERT);
	const char *fault = "there is no such time";

	if (!TIMESTAMP_NOT_FINITE(as_of))
		fault =
			crypto_cert_trust(VARDATA_ANY(cert), VARSIZE_ANY_EXHDR(cert), VARDATA_ANY(roots),
							  VARSIZE_ANY_EXHDR(roots), as_of / USECS_PER_SEC + UNIX_EPOCH_S, pem);
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the certificate is not trusted"),
				 errdetail("The check says: %s.", fault),
				 errhint("It has to chain to one of the roots with RSA keys, and all of the "
						 "chain has to be valid now.")));
	PG_RETURN_TEXT_P(cstring_to_text(pem));
}

SM_FUNCTION(submeter_cert_facts);

/*
 * submeter.cert_facts(cert_pem): valid_until, common_name; NULLs for what is no certificate.
 */
Datum
submeter_cert_facts(PG_FUNCTION_ARGS)
{
	text *cert = PG_GETARG_TEXT_PP(0);
	char name[CRYPTO_NAME];
	int64 until_s = 0;
	bool nulls[2] = {false, false};
	Datum values[2] = {0, 0};
	TupleDesc shape;

	if (get_call_result_type(fcinfo, NULL, &shape) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "cert_facts() returns a row");
	if (!crypto_cert_read(VARDATA_ANY(cert), VARSIZE_ANY_EXHDR(cert), &until_s, name) ||
		!pg_verify_mbstr(GetDatabaseEncoding(), name, (int) strlen(name), true))
		nulls[0] = nulls[1] = true;
	else
	{
		values[0] = TimestampTzGetDatum((TimestampTz) (until_s - UNIX_EPOCH_S) * USECS_PER_SEC);
		values[1] = CStringGetTextDatum(name);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(shape), values, nulls)));
}
