/*
 * crypto_chain.c - certificates that are not here yet: do they come from a root that is?
 *
 * A provider's new certificate arrives over the wire, possibly with those between it and the root
 * behind it. The only thing to start from are the roots a person entered. Where anything is in
 * doubt the answer is no: then a person enters the certificate.
 */
#include "crypto.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#define CHAIN_TEXT_MAX 65536
#define CHAIN_CERTS_MAX 32

/* SHA-1 is nothing to found new trust on; level 1 asks for 80 bits and takes RSA from 1024 bits. */
#define CHAIN_LEVEL 1

/*
 * Nothing here is encrypted, and nobody is to be asked for a pass phrase.
 */
static int
no_pass_phrase(char *buffer, int size, int writing, void *data)
{
	(void) buffer;
	(void) size;
	(void) writing;
	(void) data;
	return -1;
}

/*
 * The certificates of a text in their order; NULL when there are none or far too many.
 */
static STACK_OF(X509) * certs_read(const char *text, size_t length)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	BIO *file = NULL;
	X509 *cert = NULL;

	if (certs != NULL && length > 0 && length <= CHAIN_TEXT_MAX)
		file = BIO_new_mem_buf(text, (int) length);
	while (file != NULL && sk_X509_num(certs) <= CHAIN_CERTS_MAX &&
		   (cert = PEM_read_bio_X509(file, NULL, no_pass_phrase, NULL)) != NULL)
		if (sk_X509_push(certs, cert) <= 0)
			X509_free(cert);
	BIO_free(file);
	ERR_clear_error();
	if (certs != NULL && (sk_X509_num(certs) == 0 || sk_X509_num(certs) > CHAIN_CERTS_MAX))
	{
		sk_X509_pop_free(certs, X509_free);
		certs = NULL;
	}
	return certs;
}

static bool
key_is_rsa(X509 *cert)
{
	EVP_PKEY *key = X509_get0_pubkey(cert);

	return key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
}

/*
 * The roots of a bundle that count: those with RSA keys. The caller frees the store.
 */
static X509_STORE *
roots_store(const char *text, size_t length)
{
	STACK_OF(X509) *certs = certs_read(text, length);
	X509_STORE *store = certs == NULL ? NULL : X509_STORE_new();

	for (int i = 0; store != NULL && i < sk_X509_num(certs); i++)
		if (key_is_rsa(sk_X509_value(certs, i)))
			X509_STORE_add_cert(store, sk_X509_value(certs, i));
	sk_X509_pop_free(certs, X509_free);
	ERR_clear_error();
	return store;
}

/*
 * Why a certificate does not chain to the store at a time; NULL when it does. The text is
 * OpenSSL's and stays.
 */
static const char *
chain_fault(X509 *cert, STACK_OF(X509) * between, X509_STORE *store, int64_t at_s)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	const char *fault = "out of memory";
	X509_VERIFY_PARAM *rules;

	if (context != NULL && X509_STORE_CTX_init(context, store, cert, between) == 1)
	{
		rules = X509_STORE_CTX_get0_param(context);
		X509_VERIFY_PARAM_set_time(rules, (time_t) at_s);
		X509_VERIFY_PARAM_set_auth_level(rules, CHAIN_LEVEL);
		fault = X509_verify_cert(context) == 1
					? NULL
					: X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
	}
	X509_STORE_CTX_free(context);
	ERR_clear_error();
	return fault;
}

/*
 * Writes a certificate as PEM. Returns its length; 0 when there is no room.
 */
static size_t
cert_write(X509 *cert, char *pem, size_t size)
{
	BIO *file = BIO_new(BIO_s_mem());
	size_t length = 0;
	char *text;

	if (file != NULL && PEM_write_bio_X509(file, cert) == 1)
		length = (size_t) BIO_get_mem_data(file, &text);
	if (length >= size)
		length = 0;
	if (length > 0)
		memcpy(pem, text, length);
	pem[length] = '\0';
	BIO_free(file);
	ERR_clear_error();
	return length;
}

/*
 * Whether the first certificate of a text, with the others between, chains to one of the roots at a
 * time. Returns why not; NULL when it does, and then pem is that certificate alone: what was
 * checked and nothing beside it.
 */
const char *
crypto_cert_trust(const char *text, size_t length, const char *roots, size_t roots_length,
				  int64_t at_s, char pem[CRYPTO_CERT])
{
	STACK_OF(X509) *certs = certs_read(text, length);
	X509_STORE *store = roots_store(roots, roots_length);
	const char *fault = NULL;

	pem[0] = '\0';
	if (certs == NULL)
		fault = "there is no certificate in it";
	else if (store == NULL)
		fault = "there are no roots";
	else if (!key_is_rsa(sk_X509_value(certs, 0)))
		fault = "its key is not RSA";
	else
		fault = chain_fault(sk_X509_value(certs, 0), certs, store, at_s);
	if (fault == NULL && cert_write(sk_X509_value(certs, 0), pem, CRYPTO_CERT) == 0)
		fault = "it is too long";
	sk_X509_pop_free(certs, X509_free);
	X509_STORE_free(store);
	return fault;
}

/*
 * Until when the first certificate of a text is valid, in seconds since 1970, and whom it is for
 * (its last common name, in UTF-8). False when there is none, or no such name.
 */
bool
crypto_cert_read(const char *text, size_t length, int64_t *until_s, char name[CRYPTO_NAME])
{
	STACK_OF(X509) *certs = certs_read(text, length);
	X509 *cert = certs == NULL ? NULL : sk_X509_value(certs, 0);
	X509_NAME *subject = cert == NULL ? NULL : X509_get_subject_name(cert);
	unsigned char *utf8 = NULL;
	int at = -1;
	int size = -1;
	struct tm until;
	bool good;

	for (int next;
		 subject != NULL && (next = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;)
		at = next;
	if (at >= 0)
		size =
			ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	good = size > 0 && size < CRYPTO_NAME && memchr(utf8, '\0', (size_t) size) == NULL &&
		   ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1;
	name[0] = '\0';
	if (good)
	{
		memcpy(name, utf8, (size_t) size);
		name[size] = '\0';
		*until_s = (int64_t) timegm(&until);
	}
	OPENSSL_free(utf8);
	sk_X509_pop_free(certs, X509_free);
	ERR_clear_error();
	return good;
}
