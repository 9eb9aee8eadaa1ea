# Each fallible call of sender and agent fails once. `make torture` tries every one of them, make check some.
noinst_PROGRAMS += tests/torture/treecast-torture
tests_torture_treecast_torture_SOURCES = src/cli/main.c tests/torture/wrap.c
tests_torture_treecast_torture_LDADD = libtc-cli.la
# The names that wrap.c wraps.
tests_torture_treecast_torture_LDFLAGS = \
	-Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=reallocarray -Wl,--wrap=strdup \
	-Wl,--wrap=strndup -Wl,--wrap=mkdirat -Wl,--wrap=fstat -Wl,--wrap=fstatat -Wl,--wrap=flock \
	-Wl,--wrap=posix_fallocate -Wl,--wrap=write -Wl,--wrap=pwrite -Wl,--wrap=read -Wl,--wrap=pread \
	-Wl,--wrap=fchmod -Wl,--wrap=fchown -Wl,--wrap=fsync -Wl,--wrap=renameat -Wl,--wrap=renameat2 \
	-Wl,--wrap=linkat -Wl,--wrap=fdopendir -Wl,--wrap=fopen -Wl,--wrap=socket -Wl,--wrap=bind -Wl,--wrap=listen \
	-Wl,--wrap=accept4 -Wl,--wrap=connect -Wl,--wrap=getsockname -Wl,--wrap=getsockopt -Wl,--wrap=setsockopt \
	-Wl,--wrap=send -Wl,--wrap=sendmsg -Wl,--wrap=recv -Wl,--wrap=eventfd -Wl,--wrap=getaddrinfo \
	-Wl,--wrap=pthread_create -Wl,--wrap=event_base_new_with_config -Wl,--wrap=event_new -Wl,--wrap=SSL_CTX_new \
	-Wl,--wrap=SSL_new -Wl,--wrap=SSL_SESSION_new -Wl,--wrap=BIO_new -Wl,--wrap=BIO_meth_new \
	-Wl,--wrap=SSL_CTX_set_ciphersuites -Wl,--wrap=EVP_MD_CTX_new -Wl,--wrap=EVP_DigestInit_ex2 \
	-Wl,--wrap=EVP_PKEY_new_raw_private_key -Wl,--wrap=EVP_PKEY_new_raw_public_key -Wl,--wrap=EVP_KDF_fetch \
	-Wl,--wrap=EVP_KDF_CTX_new -Wl,--wrap=RAND_priv_bytes -Wl,--wrap=ZSTD_createCCtx -Wl,--wrap=ZSTD_createDCtx \
	-Wl,--wrap=open -Wl,--wrap=openat -Wl,--wrap=syscall

test_scripts += tests/torture/torture.py
torture: all
	$(AM_TESTS_ENVIRONMENT) TORTURE_ALL=1 $(PYTHON3) $(srcdir)/tests/torture/torture.py
.PHONY: torture
