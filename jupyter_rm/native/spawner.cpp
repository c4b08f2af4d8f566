// Packs launches into the bodies of requests for the host program (spawner_wire.hpp), about half a microsecond each.
//
// Knows: the attribute names of Launch in runtime/process.py. Does not know how processes are started and awaited: that
// is the host program, see spawner_host.hpp (wire), spawner_core.hpp (threads, queues, ends) and spawner_launch.hpp
// (clone to exec).
#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include <sys/syscall.h>
#include <unistd.h>

#include "spawner_core.hpp"
#include "spawner_wire.hpp"

namespace nb = nanobind;
using namespace jrm;

namespace {

// Attribute names made once: a launch has twelve of them and ten thousand launches come in one call.
struct Names {
    PyObject *token, *argv, *env, *cwd, *in, *out, *err, *cpus, *extra, *timeout, *grace, *limits;
    Names() {
        auto make = [](const char *s) { return PyUnicode_InternFromString(s); };
        token = make("token"), argv = make("argv"), env = make("env"), cwd = make("cwd"), in = make("stdin");
        out = make("stdout"), err = make("stderr"), cpus = make("cpus"), extra = make("extra_env");
        timeout = make("timeout"), grace = make("grace"), limits = make("limits");
    }
};

const Names &names() {
    static const Names *n = new Names;
    return *n;
}

nb::object attr(nb::handle o, PyObject *name) {
    PyObject *v = PyObject_GetAttr(o.ptr(), name);
    if (!v) throw nb::python_error();
    return nb::steal(v);
}

void append_bytes(std::string &text, nb::handle v, const char *what) {
    char *p = nullptr;
    Py_ssize_t n = 0;
    if (!PyBytes_Check(v.ptr())) throw nb::type_error((std::string(what) + " must be bytes").c_str());
    if (PyBytes_AsStringAndSize(v.ptr(), &p, &n) != 0) throw nb::python_error();
    if (memchr(p, 0, static_cast<size_t>(n))) throw nb::value_error((std::string(what) + " holds a zero byte").c_str());
    text.append(p, static_cast<size_t>(n));
    text.push_back('\0');
}

double number(nb::handle v) {
    const double d = PyFloat_AsDouble(v.ptr());
    if (d == -1.0 && PyErr_Occurred()) throw nb::python_error();
    return d;
}

CpuMask mask_of(nb::handle cpus) {
    CpuMask mask;
    constexpr size_t bits = 8 * sizeof(unsigned long);
    for (nb::handle item : cpus) {
        const long cpu = PyLong_AsLong(item.ptr());
        if (cpu == -1 && PyErr_Occurred()) throw nb::python_error();
        if (cpu < 0 || cpu >= 65536) throw nb::value_error("cpus: a CPU number is out of range");
        if (mask.size() <= static_cast<size_t>(cpu) / bits) mask.resize(static_cast<size_t>(cpu) / bits + 1);
        mask[static_cast<size_t>(cpu) / bits] |= 1ul << (static_cast<size_t>(cpu) % bits);
    }
    return mask;
}

// Like cpu masks in spawner_launch.hpp, as the bytes that follow a request.
void append_cpus(std::string &out, const CpuMask &mask) {
    out.append(reinterpret_cast<const char *>(mask.data()), mask.size() * sizeof(unsigned long));
}

uint64_t append_launch(std::string &out, nb::handle o, uint64_t alloc, uint64_t envs) {
    const Names &n = names();
    LaunchHead h{};
    const size_t at = out.size();
    out.resize(at + sizeof h);
    h.token = nb::cast<uint64_t>(attr(o, n.token));
    if (h.token == 0) throw nb::value_error("token 0 means none");
    h.alloc = alloc;
    const uint64_t env = nb::cast<uint64_t>(attr(o, n.env));
    if (env == 0 || env > envs) throw nb::value_error("env: not an id given by env()");
    h.env = static_cast<uint32_t>(env);
    append_bytes(out, attr(o, n.cwd), "cwd");
    append_bytes(out, attr(o, n.in), "stdin");
    append_bytes(out, attr(o, n.out), "stdout");
    append_bytes(out, attr(o, n.err), "stderr");
    for (nb::handle a : attr(o, n.argv)) append_bytes(out, a, "argv"), h.argc++;
    if (h.argc == 0) throw nb::value_error("argv is empty");
    for (nb::handle e : attr(o, n.extra)) append_bytes(out, e, "extra_env"), h.extras++;
    h.text = static_cast<uint32_t>(out.size() - at - sizeof h);
    const CpuMask mask = mask_of(attr(o, n.cpus));
    h.cpus = static_cast<uint32_t>(mask.size());
    append_cpus(out, mask);
    h.timeout = number(attr(o, n.timeout));
    h.grace = number(attr(o, n.grace));
    for (nb::handle limit : attr(o, n.limits)) {
        const int64_t x[3] = {nb::cast<int64_t>(limit[0]), nb::cast<int64_t>(limit[1]), nb::cast<int64_t>(limit[2])};
        out.append(reinterpret_cast<const char *>(x), sizeof x);  // -1 is RLIM_INFINITY, as in Python
        h.limits++;
    }
    memcpy(&out[at], &h, sizeof h);
    return h.token;
}

nb::object bytes_of(const std::string &s) { return nb::bytes(s.data(), s.size()); }

// (tokens, [body, ...]): a body holds some hundred launches, so that neither side needs room for all of them at once.
nb::tuple pack(nb::handle launches, nb::handle allocs, uint64_t envs) {
    constexpr size_t ENOUGH = 256 * 1024;
    nb::list tokens, bodies;
    std::string out;
    nb::iterator alloc;
    if (!allocs.is_none()) alloc = nb::iter(allocs);
    for (nb::handle l : launches) {
        uint64_t held = 0;
        if (alloc.is_valid()) {
            if (alloc == nb::iterator::sentinel()) throw nb::value_error("start: one allocation per launch");
            held = nb::cast<uint64_t>(*alloc);
            ++alloc;
        }
        tokens.append(append_launch(out, l, held, envs));
        if (out.size() >= ENOUGH) {
            bodies.append(bytes_of(out));
            out.clear();
        }
    }
    if (alloc.is_valid() && alloc != nb::iterator::sentinel())
        throw nb::value_error("start: one allocation per launch");
    if (!out.empty()) bodies.append(bytes_of(out));
    return nb::make_tuple(tokens, bodies);
}

nb::object pack_env(nb::handle items) {
    std::string out;
    for (nb::handle item : items) append_bytes(out, item, "env");
    return bytes_of(out);
}

nb::object pack_cpus(nb::handle cpus) {
    std::string out;
    append_cpus(out, mask_of(cpus));
    return bytes_of(out);
}

// Whether this kernel has what the spawner stands on (pidfd_open: Linux 5.3); if not, the portable twin serves.
bool supported() {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
    if (fd < 0) return false;
    close(fd);
    return true;
}

}  // namespace

NB_MODULE(_spawner, m) {
  nb::set_leak_warnings(false);  // at exit Python may leave objects alive; that is no news for users
    m.attr("EVENT_SIZE") = sizeof(Event);
    m.attr("WIRE_VERSION") = WIRE_VERSION;
    m.def("supported", &supported);
    m.def("pack", &pack, nb::arg("launches"), nb::arg("allocs").none(), nb::arg("envs"));
    m.def("pack_env", &pack_env, nb::arg("items"));
    m.def("pack_cpus", &pack_cpus, nb::arg("cpus"));
}
