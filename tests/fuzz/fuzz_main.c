/* One target under libFuzzer: compiled with -DTARGET_NAME=fuzz_message. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    TARGET_NAME(bytes, size);
    return 0;
}
