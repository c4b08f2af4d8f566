// Python's face of the spawner: turns Launch objects into flat launches and hands event batches out as bytes.
//
// Knows: the attribute names of runtime/process.py's Launch. Does not know how processes are started and awaited:
// that is spawner_core.hpp (threads, queues, ends) and spawner_launch.hpp (clone to exec).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "spawner_core.hpp"

namespace nb = nanobind;
using namespace jrm;

namespace {

using Given = std::vector<std::pair<uint64_t, std::unique_ptr<Launch>>>;

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

class Spawner {
public:
    Spawner(int threads, bool sweep) : core_(std::make_shared<Core>(sweep)) {
        if (!core_->ok()) throw std::runtime_error("no descriptors left for the spawner");
        // More threads than CPUs cost nothing while they wait, and keep one hung start from holding up the rest.
        if (threads <= 0) threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 4, 16);
        core_->run_threads(threads);
    }
    ~Spawner() {
        nb::gil_scoped_release free;
        core_->close_down(true, 2.0);
    }

    uint64_t env(nb::handle items) {
        std::vector<std::string> list;
        for (nb::handle item : items) {
            std::string s;
            append_bytes(s, item, "env");
            s.pop_back();
            list.push_back(std::move(s));
        }
        envs_.push_back(std::make_shared<const Env>(std::move(list)));
        return envs_.size();
    }

    void start(uint64_t pool, nb::handle allocs, nb::handle launches) {
        Given given = read_launches(launches);
        size_t i = 0;
        for (nb::handle a : allocs) {
            if (i < given.size()) given[i].first = nb::cast<uint64_t>(a);
            i++;
        }
        if (i != given.size()) throw nb::value_error("start: one allocation per launch");
        hand_in([&](uint64_t &bad) { return core_->start(pool, given, bad); });
    }

    void queue(uint64_t pool, nb::handle launches) {
        Given given = read_launches(launches);
        hand_in([&](uint64_t &bad) { return core_->queue(pool, given, bad); });
    }

    uint64_t feed(uint64_t pool, uint64_t alloc, nb::handle cpus) {
        CpuMask mask = mask_of(cpus);
        nb::gil_scoped_release free;
        return core_->feed(pool, alloc, std::move(mask));
    }

    nb::bytes drain() {
        std::vector<Event> events;
        {
            nb::gil_scoped_release free;
            events = core_->take_events();
        }
        return nb::bytes(reinterpret_cast<const char *>(events.data()), events.size() * sizeof(Event));
    }

    Core &core() { return *core_; }

private:
    template <typename F>
    void hand_in(F f) {
        uint64_t bad = 0;
        bool ok;
        {
            nb::gil_scoped_release free;
            ok = f(bad);
        }
        if (ok) return;
        if (!bad) throw std::runtime_error("the spawner is closed");
        throw nb::value_error(("token " + std::to_string(bad) + " is in use").c_str());
    }

    Given read_launches(nb::handle launches) {
        Given given;
        given.reserve(static_cast<size_t>(PyObject_LengthHint(launches.ptr(), 0)));
        for (nb::handle l : launches) given.emplace_back(0, read_launch(l));
        return given;
    }

    std::unique_ptr<Launch> read_launch(nb::handle o) {
        const Names &n = names();
        auto l = std::make_unique<Launch>();
        l->token = nb::cast<uint64_t>(attr(o, n.token));
        if (l->token == 0) throw nb::value_error("token 0 means none");
        const uint64_t env = nb::cast<uint64_t>(attr(o, n.env));
        if (env == 0 || env > envs_.size()) throw nb::value_error("env: not an id given by env()");
        l->env = envs_[env - 1];
        append_bytes(l->text, attr(o, n.cwd), "cwd");
        append_bytes(l->text, attr(o, n.in), "stdin");
        append_bytes(l->text, attr(o, n.out), "stdout");
        append_bytes(l->text, attr(o, n.err), "stderr");
        for (nb::handle a : attr(o, n.argv)) append_bytes(l->text, a, "argv"), l->argc++;
        if (l->argc == 0) throw nb::value_error("argv is empty");
        for (nb::handle e : attr(o, n.extra)) append_bytes(l->text, e, "extra_env"), l->extras++;
        l->text.shrink_to_fit();
        l->cpus = mask_of(attr(o, n.cpus));
        l->timeout = number(attr(o, n.timeout));
        l->grace = number(attr(o, n.grace));
        for (nb::handle limit : attr(o, n.limits)) {
            Limit x{};
            x.resource = nb::cast<int>(limit[0]);
            x.soft = static_cast<rlim_t>(nb::cast<int64_t>(limit[1]));  // -1 is RLIM_INFINITY, as in Python
            x.hard = static_cast<rlim_t>(nb::cast<int64_t>(limit[2]));
            l->limits.push_back(x);
        }
        return l;
    }

    std::shared_ptr<Core> core_;
    std::vector<std::shared_ptr<const Env>> envs_;
};

// Whether this kernel has what the spawner stands on (pidfd_open: Linux 5.3); if not, the portable twin serves.
bool supported() {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
    if (fd < 0) return false;
    close(fd);
    return true;
}

}  // namespace

NB_MODULE(_spawner, m) {
    nb::set_leak_warnings(false);  // a spawner alive at interpreter exit is normal: its tasks end with the process
    m.attr("EVENT_SIZE") = sizeof(Event);
    m.def("supported", &supported);
    using Free = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<Spawner>(m, "Spawner")
        .def(nb::init<int, bool>(), nb::arg("threads") = 0, nb::arg("sweep") = true)
        .def("fileno", [](Spawner &s) { return s.core().fileno(); })
        .def("env", &Spawner::env, nb::arg("items"))
        .def("start", &Spawner::start, nb::arg("pool"), nb::arg("allocs"), nb::arg("launches"))
        .def("queue", &Spawner::queue, nb::arg("pool"), nb::arg("launches"))
        .def("feed", &Spawner::feed, nb::arg("pool"), nb::arg("alloc"), nb::arg("cpus"))
        .def("retract", [](Spawner &s, uint64_t pool, int64_t n) { return s.core().retract(pool, n); }, Free(),
             nb::arg("pool"), nb::arg("n") = -1)
        .def("cancel", [](Spawner &s, const std::vector<uint64_t> &tokens) { s.core().cancel(tokens); }, Free(),
             nb::arg("tokens"))
        .def("signal", [](Spawner &s, uint64_t token, int sig) { return s.core().signal(token, sig); }, Free(),
             nb::arg("token"), nb::arg("sig"))
        .def("drain", &Spawner::drain)
        .def_prop_ro("running", [](Spawner &s) { return s.core().running(); })
        .def_prop_ro("queued", [](Spawner &s) { return s.core().queued(); })
        .def("close", [](Spawner &s, bool kill, double grace) { s.core().close_down(kill, grace); }, Free(),
             nb::arg("kill") = true, nb::arg("grace") = 2.0);
}
