/*
 * bill_file.c - a provider's bill file unpacked in memory
 *
 * Alipay hands out ZIP archives, WeChat Pay gzip or plain text; what it is, its first bytes say.
 * Sizes an archive claims are not believed: everything is read in pieces until it ends or the limit
 * is reached, so a small file cannot become a large one unseen. Both libraries compare checksums at
 * the end of what they unpack.
 */
#include "bill_file.h"

#include <stdlib.h>
#include <string.h>

#include <zip.h>
#include <zlib.h>

#define PIECE ((size_t) 64 << 10)

/* A text that grows; one that reaches "most" is too large. */
typedef struct Growing
{
	char *data;
	size_t size;
	size_t room;
	size_t most;
} Growing;

/*
 * Makes room for at least one byte more.
 */
static SmBillFault
make_room(Growing *text)
{
	size_t room = text->room == 0 ? PIECE : 2 * text->room;
	char *data;

	if (text->size < text->room)
		return BILL_FINE;
	if (text->size >= text->most)
		return BILL_PLAIN_LARGE;
	if (room > text->most)
		room = text->most;
	data = realloc(text->data, room);
	if (data == NULL)
		return BILL_NO_MEMORY;
	text->data = data;
	text->room = room;
	return BILL_FINE;
}

/*
 * Takes what inflate() gives for the room there is.
 */
static int
inflate_piece(z_stream *stream, Growing *text)
{
	size_t room = text->room - text->size;
	int status;

	stream->next_out = (Bytef *) text->data + text->size;
	stream->avail_out = (uInt) room;
	status = inflate(stream, Z_NO_FLUSH);
	text->size += room - stream->avail_out;
	return status;
}

/*
 * Unpacks the members of a gzip file one behind the other, as gzip does.
 */
static SmBillFault
inflate_members(z_stream *stream, Growing *text)
{
	for (;;)
	{
		SmBillFault fault = make_room(text);
		int status;

		if (fault != BILL_FINE)
			return fault;
		status = inflate_piece(stream, text);
		if (status == Z_STREAM_END && stream->avail_in == 0)
			return BILL_FINE;
		if (status == Z_STREAM_END)
			status = inflateReset(stream);
		/* With room and all input given, no progress means that the end is missing. */
		if (status != Z_OK || (stream->avail_in == 0 && stream->avail_out > 0))
			return status == Z_MEM_ERROR ? BILL_NO_MEMORY : BILL_CORRUPT;
	}
}

static SmBillFault
unpack_gzip(const char *packed, size_t size, size_t plain_max, SmBillFile *file)
{
	Growing text = {NULL, 0, 0, plain_max + 1};
	z_stream stream = {0};
	SmBillFault fault;

	/* 16: gzip and nothing else. */
	if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
		return BILL_NO_MEMORY;
	stream.next_in = (Bytef *) packed;
	stream.avail_in = (uInt) size;
	fault = inflate_members(&stream, &text);
	inflateEnd(&stream);
	file->entries[0].data = text.data;
	file->entries[0].size = text.size;
	file->n_entries = 1;
	return fault == BILL_FINE && text.size > plain_max ? BILL_PLAIN_LARGE : fault;
}

/*
 * Reads an open entry to its end.
 */
static SmBillFault
read_entry(zip_file_t *entry, Growing *text)
{
	for (;;)
	{
		SmBillFault fault = make_room(text);
		zip_int64_t n;

		if (fault != BILL_FINE)
			return fault;
		n = zip_fread(entry, text->data + text->size, text->room - text->size);
		if (n <= 0)
			return n == 0 ? BILL_FINE : BILL_CORRUPT;
		text->size += (size_t) n;
	}
}

/*
 * Why an entry does not open.
 */
static SmBillFault
entry_fault(zip_t *archive)
{
	switch (zip_error_code_zip(zip_get_error(archive)))
	{
		case ZIP_ER_MEMORY:
			return BILL_NO_MEMORY;
		case ZIP_ER_NOPASSWD:
		case ZIP_ER_WRONGPASSWD:
			return BILL_LOCKED;
		default:
			return BILL_CORRUPT;
	}
}

/*
 * Unpacks one entry; folders have no text. Adds to what was unpacked so far.
 */
static SmBillFault
unpack_entry(zip_t *archive, zip_uint64_t index, size_t plain_max, size_t *unpacked,
			 SmBillFile *file)
{
	const char *name = zip_get_name(archive, index, ZIP_FL_ENC_RAW);
	Growing text = {NULL, 0, 0, plain_max - *unpacked + 1};
	zip_file_t *entry;
	SmBillFault fault;

	if (name != NULL && name[0] != '\0' && name[strlen(name) - 1] == '/')
		return BILL_FINE;
	entry = zip_fopen_index(archive, index, 0);
	if (entry == NULL)
		return entry_fault(archive);
	fault = read_entry(entry, &text);
	zip_fclose(entry);
	file->entries[file->n_entries].data = text.data;
	file->entries[file->n_entries].size = text.size;
	file->n_entries++;
	*unpacked += text.size;
	return fault;
}

static SmBillFault
unpack_entries(zip_t *archive, size_t plain_max, SmBillFile *file)
{
	zip_int64_t n_entries = zip_get_num_entries(archive, 0);
	size_t unpacked = 0;
	SmBillFault fault = BILL_FINE;

	if (n_entries > BILL_ENTRIES_MAX)
		return BILL_MANY_ENTRIES;
	for (zip_int64_t i = 0; i < n_entries && fault == BILL_FINE; i++)
		fault = unpack_entry(archive, (zip_uint64_t) i, plain_max, &unpacked, file);
	return fault;
}

static SmBillFault
unpack_zip(const char *packed, size_t size, size_t plain_max, SmBillFile *file)
{
	zip_error_t error;
	zip_source_t *source;
	zip_t *archive;
	SmBillFault fault;

	zip_error_init(&error);
	source = zip_source_buffer_create(packed, size, 0, &error);
	archive = source == NULL ? NULL : zip_open_from_source(source, ZIP_RDONLY, &error);
	fault = zip_error_code_zip(&error) == ZIP_ER_MEMORY ? BILL_NO_MEMORY : BILL_CORRUPT;
	zip_error_fini(&error);
	if (archive == NULL)
	{
		/* An archive that opened owns its source. */
		zip_source_free(source);
		return fault;
	}
	fault = unpack_entries(archive, plain_max, file);
	zip_discard(archive);
	return fault;
}

/*
 * Unpacks whatever it is into at most plain_max bytes. When it fails nothing is left to free.
 */
SmBillFault
bill_unpack(const char *packed, size_t size, size_t plain_max, SmBillFile *file)
{
	bool is_zip =
		size >= 4 && (memcmp(packed, "PK\3\4", 4) == 0 || memcmp(packed, "PK\5\6", 4) == 0);
	bool is_gzip = size >= 2 && memcmp(packed, "\x1f\x8b", 2) == 0;
	SmBillFault fault = BILL_FINE;

	memset(file, 0, sizeof(*file));
	file->owned = is_zip || is_gzip;
	if (file->owned && size > BILL_PACKED_MAX)
		fault = BILL_PACKED_LARGE;
	else if (is_zip)
		fault = unpack_zip(packed, size, plain_max, file);
	else if (is_gzip)
		fault = unpack_gzip(packed, size, plain_max, file);
	else if (size > plain_max)
		fault = BILL_PLAIN_LARGE;
	else
	{
		file->entries[0].data = (char *) packed;
		file->entries[0].size = size;
		file->n_entries = 1;
	}
	if (fault != BILL_FINE)
		bill_file_free(file);
	return fault;
}

/*
 * Gives back what was unpacked; again does no harm.
 */
void
bill_file_free(SmBillFile *file)
{
	for (int i = 0; file->owned && i < file->n_entries; i++)
		free(file->entries[i].data);
	file->n_entries = 0;
}
