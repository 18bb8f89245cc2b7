/*
 * secret.h - master keys that are not in the database
 */
#ifndef SUBMETER_SECRET_H
#define SUBMETER_SECRET_H

extern void secret_init(void);

#endif
