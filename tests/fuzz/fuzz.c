#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int fuzz_file(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

uint8_t script_byte(struct script *script)
{
    return script->at < script->size ? script->bytes[script->at++] : 0;
}

uint32_t script_number(struct script *script)
{
    uint32_t number = script_byte(script);
    if (number < 0xf0)
        return number;
    for (unsigned i = 0; i < 4; i++)
        number = number << 8 | script_byte(script);
    return number;
}

const uint8_t *script_run(struct script *script, size_t *size)
{
    const uint8_t *run = script->bytes + script->at;
    if (*size > script->size - script->at)
        *size = script->size - script->at;
    script->at += *size;
    return run;
}
