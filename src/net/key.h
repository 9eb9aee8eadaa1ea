/* key.h - key files and what is derived from them.
 *
 * FILE for agents:        treecast key 1\n group HEX64\n [origin HEX64\n]      (group key, origin's Ed25519 public key)
 * FILE.origin for senders: treecast origin 1\n secret HEX64\n                  (origin's Ed25519 secret)
 * Words are parted by single spaces, lines end with \n, HEX64 is lower-case; nothing else may stand there. */
#ifndef TC_NET_KEY_H
#define TC_NET_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define TC_KEY_SIZE 32u

struct tc_key {
    uint8_t group[TC_KEY_SIZE];
    bool has_origin;
    uint8_t origin[TC_KEY_SIZE]; /* public */
    bool has_secret;
    uint8_t secret[TC_KEY_SIZE]; /* FILE.origin */
};

/* Have libcrypto and libssl load no configuration file in this process (openssl.cnf, $OPENSSL_CONF), nor what such a
 * file would name: for hooks and agents, before anything else of here is called. */
void tc_key_no_configuration(void);

/* Read FILE: a regular file (no link, no FIFO) of this user or root, mode without group and other bits, right length.
 * TC_E_POLICY (owner, mode, kind), TC_E_FORMAT, TC_E_NOTFOUND; the line says what to do ("chmod 600 FILE"). */
int tc_key_read(struct tc_key *key, const char *path, struct tc_err *err);
int tc_key_read_fd(struct tc_key *key, int fd, struct tc_err *err); /* an inherited descriptor: content checks only */
/* Add the secret half; TC_E_POLICY when it does not belong to key's origin. */
int tc_key_read_origin(struct tc_key *key, const char *path, struct tc_err *err);

/* Write FILE and, unless group_only, FILE.origin, both 0600 with O_EXCL; TC_E_EXISTS leaves both as they were, failure
 * half-way removes what it made. */
int tc_key_generate(const char *path, bool group_only, struct tc_err *err);

/* A fresh pair that is in no file: for one broadcast whose agents are told it when they are started. */
int tc_key_make(struct tc_key *key, bool group_only, struct tc_err *err);
/* What FILE for agents would hold: without the secret half. */
#define TC_KEY_TEXT 256 /* bytes with NUL */
void tc_key_text(const struct tc_key *key, char out[TC_KEY_TEXT]);
void tc_key_origin_text(const struct tc_key *key, char out[TC_KEY_TEXT]); /* and FILE.origin; key has the secret */

/* HKDF-SHA-256 of the group key (salt "treecast 1") for one purpose ("control": the info). */
int tc_key_derive(const struct tc_key *key, const char *purpose, uint8_t out[TC_KEY_SIZE], struct tc_err *err);

/* The keys of one job out of a cluster's group key: a group and an origin with its secret, by HKDF for identity (one
 * line, the same on every host of the job). */
int tc_key_derive_job(const struct tc_key *cluster, const char *identity, struct tc_key *job, struct tc_err *err);
void tc_key_clear(struct tc_key *key); /* overwrite */

#endif
