#include "net/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_HEAD "treecast key 1\n"
#define ORIGIN_HEAD "treecast origin 1\n"
#define FILE_MAX 256 /* bytes; both kinds are shorter */

void tc_key_no_configuration(void)
{
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG,
                        NULL); /* holds for OPENSSL_init_ssl as well: the first one counts */
}

/* A file's text while it is taken apart; cleared after use. */
struct text {
    char bytes[FILE_MAX];
    size_t size, at;
};

static int read_all(struct text *text, int fd, const char *path, struct tc_err *err)
{
    *text = (struct text){0};
    while (text->size < sizeof text->bytes) {
        ssize_t got = read(fd, text->bytes + text->size, sizeof text->bytes - text->size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tc_fail_errno(err, errno, "%s: cannot read the key", path);
        if (got == 0)
            return 0;
        text->size += (size_t)got;
    }
    return tc_fail(err, TC_E_FORMAT, "%s: too long for a key file", path);
}

static bool skip(struct text *text, const char *word)
{
    size_t length = strlen(word);
    if (length > text->size - text->at || memcmp(text->bytes + text->at, word, length) != 0)
        return false;
    text->at += length;
    return true;
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "word HEX64\n" */
static bool field(struct text *text, const char *word, uint8_t out[TC_KEY_SIZE])
{
    if (!skip(text, word) || text->size - text->at < 2 * TC_KEY_SIZE)
        return false;
    for (unsigned i = 0; i < TC_KEY_SIZE; i++) {
        int high = nibble(text->bytes[text->at++]);
        int low = nibble(text->bytes[text->at++]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return skip(text, "\n");
}

static bool parse_key(struct text *text, struct tc_key *key)
{
    if (!skip(text, KEY_HEAD) || !field(text, "group ", key->group))
        return false;
    if (text->at < text->size) {
        key->has_origin = field(text, "origin ", key->origin);
        return key->has_origin && text->at == text->size;
    }
    return true;
}

static int open_private(const char *path, struct tc_err *err)
{
    /* O_NONBLOCK: a FIFO must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        return tc_fail(err, TC_E_POLICY, "%s: a symbolic link; name the key file itself", path);
    if (fd < 0)
        return tc_fail_errno(err, errno, "%s: cannot open the key file", path);
    struct stat facts;
    int result = 0;
    if (fstat(fd, &facts) != 0)
        result = tc_fail_errno(err, errno, "%s", path);
    else if (!S_ISREG(facts.st_mode))
        result = tc_fail(err, TC_E_POLICY, "%s: not a regular file", path);
    else if (facts.st_uid != geteuid() && facts.st_uid != 0)
        result = tc_fail(err, TC_E_POLICY, "%s: belongs to user %u; a key must be your own or root's", path,
                         (unsigned)facts.st_uid);
    else if (facts.st_mode & 077)
        result = tc_fail(err, TC_E_POLICY, "%s: others may read it (mode %04o): chmod 600 %s", path,
                         (unsigned)(facts.st_mode & 07777), path);
    if (result != 0) {
        close(fd);
        return result;
    }
    return fd;
}

static int read_key(struct tc_key *key, int fd, const char *path, struct tc_err *err)
{
    struct text text;
    memset(key, 0, sizeof *key);
    int result = read_all(&text, fd, path, err);
    if (result == 0 && !parse_key(&text, key))
        result = tc_fail(err, TC_E_FORMAT, "%s: not a treecast key file; make one with: treecast keygen FILE", path);
    OPENSSL_cleanse(&text, sizeof text);
    if (result != 0)
        tc_key_clear(key);
    return result;
}

int tc_key_read(struct tc_key *key, const char *path, struct tc_err *err)
{
    int fd = open_private(path, err);
    if (fd < 0)
        return fd;
    int result = read_key(key, fd, path, err);
    close(fd);
    return result;
}

int tc_key_read_fd(struct tc_key *key, int fd, struct tc_err *err)
{
    char name[32];
    snprintf(name, sizeof name, "descriptor %d", fd);
    return read_key(key, fd, name, err);
}

static int public_of(const uint8_t secret[TC_KEY_SIZE], uint8_t out[TC_KEY_SIZE], struct tc_err *err)
{
    size_t size = TC_KEY_SIZE;
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, TC_KEY_SIZE);
    bool done = pair && EVP_PKEY_get_raw_public_key(pair, out, &size) == 1;
    EVP_PKEY_free(pair);
    return done ? 0 : tc_fail(err, TC_E_NOMEM, "Ed25519: cannot derive the public key");
}

static int read_secret(const char *path, uint8_t secret[TC_KEY_SIZE], struct tc_err *err)
{
    struct text text;
    int fd = open_private(path, err);
    if (fd < 0)
        return fd;
    int result = read_all(&text, fd, path, err);
    close(fd);
    if (result == 0 && (!skip(&text, ORIGIN_HEAD) || !field(&text, "secret ", secret) || text.at != text.size))
        result = tc_fail(err, TC_E_FORMAT, "%s: not a treecast origin key file", path);
    OPENSSL_cleanse(&text, sizeof text);
    return result;
}

int tc_key_read_origin(struct tc_key *key, const char *path, struct tc_err *err)
{
    uint8_t secret[TC_KEY_SIZE], origin[TC_KEY_SIZE];
    int result = read_secret(path, secret, err);
    if (result == 0)
        result = public_of(secret, origin, err);
    if (result == 0 && (!key->has_origin || memcmp(origin, key->origin, TC_KEY_SIZE) != 0))
        result =
            tc_fail(err, TC_E_POLICY, "%s: not the origin that the key file names; use the pair from one keygen", path);
    if (result == 0) {
        memcpy(key->secret, secret, TC_KEY_SIZE);
        key->has_secret = true;
    }
    OPENSSL_cleanse(secret, sizeof secret);
    return result;
}

static void append_field(struct text *text, const char *word, const uint8_t bytes[TC_KEY_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    text->size += (size_t)sprintf(text->bytes + text->size, "%s ", word);
    for (unsigned i = 0; i < TC_KEY_SIZE; i++) {
        text->bytes[text->size++] = hex[bytes[i] >> 4];
        text->bytes[text->size++] = hex[bytes[i] & 15];
    }
    text->bytes[text->size++] = '\n';
}

static int write_new(const char *path, const struct text *text, struct tc_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return tc_fail(err, TC_E_EXISTS, "%s: exists; keys are never overwritten", path);
    if (fd < 0)
        return tc_fail_errno(err, errno, "%s: cannot make the key file", path);
    int result = 0;
    ssize_t written = write(fd, text->bytes, text->size);
    if (written != (ssize_t)text->size)
        result = tc_fail_errno(err, written < 0 ? errno : ENOSPC, "%s: cannot write the key", path);
    else if (fchmod(fd, 0600) != 0 || fsync(fd) != 0) /* fchmod: umask may have taken too much */
        result = tc_fail_errno(err, errno, "%s: cannot write the key", path);
    close(fd);
    if (result != 0)
        unlink(path);
    return result;
}

static void agents_text(struct text *text, const struct tc_key *key)
{
    *text = (struct text){0};
    text->size = (size_t)sprintf(text->bytes, KEY_HEAD);
    append_field(text, "group", key->group);
    if (key->has_origin)
        append_field(text, "origin", key->origin);
}

static void origins_text(struct text *text, const struct tc_key *key)
{
    *text = (struct text){0};
    text->size = (size_t)sprintf(text->bytes, ORIGIN_HEAD);
    append_field(text, "secret", key->secret);
}

static void hand_out(struct text *text, char out[TC_KEY_TEXT])
{
    memcpy(out, text->bytes, text->size);
    out[text->size] = '\0';
    OPENSSL_cleanse(text, sizeof *text);
}

void tc_key_text(const struct tc_key *key, char out[TC_KEY_TEXT])
{
    struct text text;
    agents_text(&text, key);
    hand_out(&text, out);
}

void tc_key_origin_text(const struct tc_key *key, char out[TC_KEY_TEXT])
{
    struct text text;
    origins_text(&text, key);
    hand_out(&text, out);
}

static int write_pair(const char *path, const char *origin_path, const struct tc_key *key, struct tc_err *err)
{
    struct text text;
    agents_text(&text, key);
    int result = write_new(path, &text, err);
    if (result == 0 && key->has_origin) {
        origins_text(&text, key);
        result = write_new(origin_path, &text, err);
        if (result != 0)
            unlink(path);
    }
    OPENSSL_cleanse(&text, sizeof text);
    return result;
}

static int key_write(const struct tc_key *key, const char *path, struct tc_err *err)
{
    char *origin_path;
    if (asprintf(&origin_path, "%s.origin", path) < 0)
        return tc_fail(err, TC_E_NOMEM, "%s: out of memory", path);
    int result = write_pair(path, origin_path, key, err);
    free(origin_path);
    return result;
}

int tc_key_make(struct tc_key *key, bool group_only, struct tc_err *err)
{
    *key = (struct tc_key){.has_origin = !group_only, .has_secret = !group_only};
    if (RAND_priv_bytes(key->group, TC_KEY_SIZE) != 1 ||
        (!group_only && RAND_priv_bytes(key->secret, TC_KEY_SIZE) != 1))
        return tc_fail(err, TC_E_FAILED, "keygen: no random bytes from OpenSSL");
    return group_only ? 0 : public_of(key->secret, key->origin, err);
}

int tc_key_generate(const char *path, bool group_only, struct tc_err *err)
{
    struct tc_key key;
    int result = tc_key_make(&key, group_only, err);
    if (result == 0)
        result = key_write(&key, path, err);
    tc_key_clear(&key);
    return result;
}

int tc_key_derive(const struct tc_key *key, const char *purpose, uint8_t out[TC_KEY_SIZE], struct tc_err *err)
{
    char digest[] = "SHA256", salt[] = "treecast 1";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, strlen(salt)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key->group, TC_KEY_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)purpose, strlen(purpose)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = hkdf ? EVP_KDF_CTX_new(hkdf) : NULL;
    bool done = context && EVP_KDF_derive(context, out, TC_KEY_SIZE, params) == 1;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(hkdf);
    return done ? 0 : tc_fail(err, TC_E_FAILED, "no key can be derived: out of memory, or this OpenSSL has no HKDF");
}

int tc_key_derive_job(const struct tc_key *cluster, const char *identity, struct tc_key *job, struct tc_err *err)
{
    char purpose[512];
    *job = (struct tc_key){.has_origin = true, .has_secret = true};
    snprintf(purpose, sizeof purpose, "job group %s", identity);
    int result = tc_key_derive(cluster, purpose, job->group, err);
    snprintf(purpose, sizeof purpose, "job origin %s", identity);
    if (result == 0)
        result = tc_key_derive(cluster, purpose, job->secret, err);
    if (result == 0)
        result = public_of(job->secret, job->origin, err);
    if (result < 0)
        tc_key_clear(job);
    return result;
}

void tc_key_clear(struct tc_key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}
