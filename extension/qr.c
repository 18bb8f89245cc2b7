/*
 * qr.c - codes to scan, as SVG
 *
 * One path of unit squares, run by run along the rows, so that a code of an address is a few kB;
 * four modules of white around it, as scanners want. Error correction M.
 */
#include "module.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include <qrencode.h>

#define QR_QUIET 4
#define QR_TEXT_MAX 1024

/*
 * The path of all dark modules: a rectangle for each run along a row.
 */
static void
qr_path(StringInfo svg, const QRcode *code)
{
	for (int y = 0; y < code->width; y++)
	{
		const unsigned char *row = code->data + y * code->width;

		for (int x = 0; x < code->width; x++)
		{
			int run = 0;

			while (x + run < code->width && (row[x + run] & 1))
				run++;
			if (run > 0)
				appendStringInfo(svg, "M%d %dh%dv1h-%dz", x + QR_QUIET, y + QR_QUIET, run, run);
			x += run;
		}
	}
}

SM_FUNCTION(submeter_qr_svg);

/*
 * submeter.qr_svg(text)
 */
Datum
submeter_qr_svg(PG_FUNCTION_ARGS)
{
	char *content = text_to_cstring(PG_GETARG_TEXT_PP(0));
	size_t length = strlen(content);
	QRcode *code;
	StringInfoData svg;
	int size;

	if (length == 0 || length > QR_TEXT_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a text of %zu bytes makes no code", length),
						errdetail("A code to scan holds 1 to %d bytes.", QR_TEXT_MAX),
						errhint("Pass the code's text as the provider gave it.")));
	/* The buffer comes first: nothing may jump while the library's memory is held. */
	initStringInfo(&svg);
	enlargeStringInfo(&svg, 512 * 1024);
	code = QRcode_encodeString8bit(content, 0, QR_ECLEVEL_M);
	if (code == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not make a code to scan")));
	size = code->width + 2 * QR_QUIET;
	appendStringInfo(&svg,
					 "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
					 "shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h%dv%dh-%dz\"/>"
					 "<path d=\"",
					 size, size, size, size, size);
	qr_path(&svg, code);
	QRcode_free(code);
	appendStringInfoString(&svg, "\"/></svg>");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(svg.data, svg.len));
}
