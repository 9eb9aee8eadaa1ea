// attach.cc - the same from C++: a handle that detaches itself, and an exception with the library's own words.
//
//     c++ -std=c++11 attach.cc $(pkg-config --cflags --libs treecast) -o attach-cc
//     ./attach-cc A.npy [DIR]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>

#include <treecast.h>

struct Detach {
    void operator()(tc_array_handle *handle) const { tc_array_detach(handle); }
};
using Array = std::unique_ptr<tc_array_handle, Detach>;

static Array attach(const char *name, const char *dir, double timeout)
{
    tc_array_handle *handle = nullptr;
    if (tc_array_attach(name, dir, timeout, &handle) < 0)
        throw std::runtime_error(tc_array_error());
    return Array(handle);
}

int main(int argc, char **argv)
try {
    if (argc < 2)
        throw std::invalid_argument("usage: attach-cc NAME [DIR]");
    Array array = attach(argv[1], argc > 2 ? argv[2] : nullptr, 60);
    const char *dtype = tc_array_dtype(array.get());
    if (!dtype || std::strcmp(dtype, "<f8") != 0)
        throw std::runtime_error("float64 wanted");
    const double *x = static_cast<const double *>(tc_array_data(array.get()));
    const double *end = x + tc_array_size(array.get()) / sizeof *x;
    std::printf("%td elements, norm %.17g\n", end - x, std::sqrt(std::inner_product(x, end, x, 0.0)));
} catch (const std::exception &why) {
    std::fprintf(stderr, "%s\n", why.what());
    return 1;
}
