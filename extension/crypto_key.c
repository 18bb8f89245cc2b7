/*
 * crypto_key.c - texts that hold keys and certificates
 *
 * Providers hand out keys as PEM and, Alipay above all, as the bare base64 between its lines. The
 * kind of a PEM block is decided by its label alone, so no decoder guesses and nothing ever asks
 * for a pass phrase at the terminal of the server. Only RSA of at least 1024 bits is a key here:
 * that is what both providers sign with.
 */
#include "crypto.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define KEY_TEXT_MAX 65536
#define KEY_BITS_MIN 1024
#define KEY_BITS_MAX 16384
#define NAME_MAX_BYTES 4096

/* What signs with RSA: PKCS #1, 1.2.840.113549.1.1 and below. */
#define OID_PKCS1 "1.2.840.113549.1.1."

/* One block of a PEM file, or what stood for it. */
typedef struct KeyBlock
{
	char *label;
	unsigned char *bytes;
	long length;
} KeyBlock;

static void
block_free(KeyBlock *block)
{
	OPENSSL_free(block->label);
	if (block->bytes != NULL)
		OPENSSL_clear_free(block->bytes, (size_t) block->length);
	memset(block, 0, sizeof(*block));
}

/*
 * The next block of a PEM file. Those with headers are encrypted: they are skipped as none.
 */
static bool
block_next(BIO *file, KeyBlock *block)
{
	char *header = NULL;
	bool plain;

	memset(block, 0, sizeof(*block));
	if (PEM_read_bio(file, &block->label, &header, &block->bytes, &block->length) != 1)
		return false;
	plain = header == NULL || header[0] == '\0';
	OPENSSL_free(header);
	if (!plain)
		block_free(block);
	return plain;
}

/*
 * Base64 without any lines around it, as the providers' pages show keys: blanks are left out.
 */
static bool
block_bare(const char *text, size_t length, KeyBlock *block)
{
	char *packed = OPENSSL_malloc(length + 1);
	size_t used = 0;
	int got;

	memset(block, 0, sizeof(*block));
	if (packed == NULL)
		return false;
	for (size_t i = 0; i < length; i++)
		if (strchr(" \t\r\n", text[i]) == NULL)
			packed[used++] = text[i];
	block->length = (long) (used / 4 * 3 + 1);
	block->bytes = OPENSSL_zalloc((size_t) block->length);
	got = block->bytes == NULL ? CRYPTO_BASE64_BAD
							   : crypto_base64(packed, used, block->bytes, (size_t) block->length);
	OPENSSL_clear_free(packed, length + 1);
	if (got <= 0)
	{
		block_free(block);
		return false;
	}
	block->length = got;
	return true;
}

/*
 * The first block of a text, PEM or bare.
 */
static bool
block_first(const char *text, size_t length, KeyBlock *block)
{
	BIO *file;
	bool found;

	memset(block, 0, sizeof(*block));
	if (length == 0 || length > KEY_TEXT_MAX || memchr(text, '\0', length) != NULL)
		return false;
	if (memchr(text, '-', length) == NULL)
		return block_bare(text, length, block);
	file = BIO_new_mem_buf(text, (int) length);
	if (file == NULL)
		return false;
	found = block_next(file, block);
	BIO_free(file);
	return found;
}

static bool
label_is(const KeyBlock *block, const char *label)
{
	return block->label != NULL && strcmp(block->label, label) == 0;
}

static bool
label_is_cert(const KeyBlock *block)
{
	return label_is(block, PEM_STRING_X509) || label_is(block, PEM_STRING_X509_OLD);
}

static X509 *
block_cert(const KeyBlock *block)
{
	const unsigned char *at = block->bytes;
	X509 *cert = d2i_X509(NULL, &at, block->length);

	if (cert != NULL && at != block->bytes + block->length)
	{
		X509_free(cert);
		cert = NULL;
	}
	return cert;
}

static EVP_PKEY *
block_cert_key(const KeyBlock *block)
{
	X509 *cert = block_cert(block);
	EVP_PKEY *key = cert == NULL ? NULL : X509_get_pubkey(cert);

	X509_free(cert);
	return key;
}

/*
 * Lets only RSA of a usable size through and leaves no error behind.
 */
static EVP_PKEY *
only_rsa(EVP_PKEY *key)
{
	int bits = key == NULL ? 0 : EVP_PKEY_get_bits(key);

	if (key != NULL &&
		(EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA || bits < KEY_BITS_MIN || bits > KEY_BITS_MAX))
	{
		EVP_PKEY_free(key);
		key = NULL;
	}
	ERR_clear_error();
	return key;
}

/*
 * The key of a text that holds a public key or a certificate, of several the first; NULL when it
 * holds neither. A private key is none: who has one by mistake where a public one belongs must
 * hear of it.
 */
EVP_PKEY *
crypto_public_key(const char *text, size_t length)
{
	EVP_PKEY *key = NULL;
	const unsigned char *at;
	KeyBlock block;

	if (!block_first(text, length, &block))
		return only_rsa(NULL);
	at = block.bytes;
	if (label_is_cert(&block))
		key = block_cert_key(&block);
	else if (block.label == NULL || label_is(&block, PEM_STRING_PUBLIC))
		key = d2i_PUBKEY(NULL, &at, block.length);
	else if (label_is(&block, PEM_STRING_RSA_PUBLIC))
		key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, block.length);
	block_free(&block);
	return only_rsa(key);
}

/*
 * The key of a text that holds a private key, PKCS #8 or PKCS #1; NULL when it holds none.
 */
EVP_PKEY *
crypto_private_key(const char *text, size_t length)
{
	EVP_PKEY *key = NULL;
	const unsigned char *at;
	KeyBlock block;

	if (!block_first(text, length, &block))
		return only_rsa(NULL);
	at = block.bytes;
	if (block.label == NULL || label_is(&block, PEM_STRING_PKCS8INF) ||
		label_is(&block, PEM_STRING_RSA))
		key = d2i_AutoPrivateKey(NULL, &at, block.length);
	block_free(&block);
	return only_rsa(key);
}

/*
 * Alipay's number of a certificate: MD5 in hex of its issuer, written as RFC 2253 has it, and its
 * serial number in decimal.
 */
static bool
cert_sn(X509 *cert, char sn[CRYPTO_SN])
{
	BIO *name = BIO_new(BIO_s_mem());
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *digits = serial == NULL ? NULL : BN_bn2dec(serial);
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int hash_length = 0;
	char *text;
	long length;
	bool good = false;

	if (name != NULL && digits != NULL &&
		X509_NAME_print_ex(name, X509_get_issuer_name(cert), 0,
						   XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0 &&
		BIO_puts(name, digits) > 0)
	{
		length = BIO_get_mem_data(name, &text);
		good = EVP_Digest(text, (size_t) length, hash, &hash_length, EVP_md5(), NULL) == 1 &&
			   hash_length == 16;
	}
	for (unsigned int i = 0; good && i < hash_length; i++)
	{
		sn[2 * i] = "0123456789abcdef"[hash[i] >> 4];
		sn[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
	}
	sn[good ? CRYPTO_SN - 1 : 0] = '\0';
	OPENSSL_free(digits);
	BN_free(serial);
	BIO_free(name);
	return good;
}

/*
 * Alipay's number of the first certificate of a text; false when it holds none.
 */
bool
crypto_cert_sn(const char *text, size_t length, char sn[CRYPTO_SN])
{
	KeyBlock block;
	X509 *cert = NULL;
	bool good;

	if (block_first(text, length, &block))
	{
		if (label_is_cert(&block))
			cert = block_cert(&block);
		block_free(&block);
	}
	good = cert != NULL && cert_sn(cert, sn);
	X509_free(cert);
	ERR_clear_error();
	return good;
}

/*
 * True when the issuer signed with RSA; Alipay's bundle also holds roots of other kinds, which do
 * not count.
 */
static bool
cert_is_rsa_signed(X509 *cert)
{
	const X509_ALGOR *algorithm;
	const ASN1_OBJECT *oid;
	char text[80];

	X509_get0_signature(NULL, &algorithm, cert);
	X509_ALGOR_get0(&oid, NULL, NULL, algorithm);
	return OBJ_obj2txt(text, sizeof(text), oid, 1) > 0 &&
		   strncmp(text, OID_PKCS1, strlen(OID_PKCS1)) == 0;
}

/*
 * Adds the number of one certificate of a bundle. Returns 1 when added, 0 when it does not count,
 * -1 when it is none or there is no room.
 */
static int
root_add(const KeyBlock *block, char *sns, size_t size)
{
	X509 *cert = block_cert(block);
	size_t used = strlen(sns);
	int added = cert == NULL ? -1 : cert_is_rsa_signed(cert);
	char sn[CRYPTO_SN];

	if (added == 1 && (used + CRYPTO_SN + 1 > size || !cert_sn(cert, sn)))
		added = -1;
	if (added == 1)
	{
		if (used > 0)
			sns[used++] = '_';
		memcpy(sns + used, sn, CRYPTO_SN);
	}
	X509_free(cert);
	return added;
}

/*
 * Alipay's number of a bundle of roots: those of its RSA-signed certificates, joined by "_".
 * Returns how many there are; -1 for a block that is no certificate, or when there is no room.
 */
int
crypto_root_sn(const char *text, size_t length, char *sns, size_t size)
{
	BIO *file;
	KeyBlock block;
	int count = 0;
	int added = 0;

	sns[0] = '\0';
	if (length == 0 || length > KEY_TEXT_MAX ||
		(file = BIO_new_mem_buf(text, (int) length)) == NULL)
		return -1;
	while (added >= 0 && block_next(file, &block))
	{
		added = label_is_cert(&block) ? root_add(&block, sns, size) : -1;
		block_free(&block);
		count += added > 0;
	}
	BIO_free(file);
	ERR_clear_error();
	return added < 0 ? -1 : count;
}
