/*
 * verify.c - how many signatures bare OpenSSL verifies: verify N BYTES prints the seconds for N
 * messages of so many bytes under one RSA key of 2048 bits that is parsed beforehand
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	long n = argc == 3 ? atol(argv[1]) : 0;
	size_t length = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned char *message = calloc(1, length + 1);
	unsigned char signature[256];
	size_t signature_length = sizeof(signature);
	EVP_PKEY *key = EVP_RSA_gen(2048);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	long good = 0;
	double begun;

	if (n < 1 || message == NULL || key == NULL ||
		EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) != 1 ||
		EVP_DigestSign(context, signature, &signature_length, message, length) != 1)
		return 1;
	begun = now_s();
	for (long i = 0; i < n; i++)
	{
		EVP_MD_CTX_reset(context);
		good += EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
				EVP_DigestVerify(context, signature, signature_length, message, length) == 1;
	}
	printf("bare %.6f\n", now_s() - begun);
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	free(message);
	return good == n ? 0 : 1;
}
