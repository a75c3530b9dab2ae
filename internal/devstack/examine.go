package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caresphere/caresphere/internal/devstack/proc"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// Finding is what one check of this machine found.
type Finding struct {
	Name string `json:"name"`
	// OK is false when a stack cannot run.
	OK bool `json:"ok"`
	// Found says what is there; Do what to do, empty if nothing.
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// Examine checks whether this machine can run a stack. It changes nothing.
func Examine(ctx context.Context, cfg Config) []Finding {
	return []Finding{
		examineGo(ctx),
		examinePostgres(ctx, cfg.Cache),
		examineTools(cfg),
		examinePrograms(cfg),
		examineState(cfg.Layout),
		examineDisk(cfg.Layout),
		examineAccount(cfg.Layout),
		examinePorts(cfg),
	}
}

var goVersion = regexp.MustCompile(`go(\d+)\.(\d+)`)

func examineGo(ctx context.Context) Finding {
	f := Finding{Name: "go", Do: "install Go 1.26 or later and put it on PATH"}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		f.Found = "there is no go on PATH: " + err.Error()
		return f
	}
	f.Found = strings.TrimSpace(string(out))
	m := goVersion.FindStringSubmatch(f.Found)
	if m == nil {
		return f
	}
	major, _ := strconv.Atoi(m[1]) // digits
	minor, _ := strconv.Atoi(m[2])
	if major > 1 || minor >= 26 {
		f.OK, f.Do = true, ""
	}
	return f
}

func examinePostgres(ctx context.Context, cache string) Finding {
	bin, major, err := FindPostgres(ctx, cache)
	switch {
	case err == nil:
		return Finding{Name: "postgres", OK: true, Found: fmt.Sprintf("version %d in %s", major, bin)}
	case !errors.Is(err, ErrNoPostgres):
		return Finding{Name: "postgres", Found: err.Error(), Do: "repair the installation, or remove it"}
	}
	for _, way := range installWays(cache) {
		if way.possible(ctx) {
			return Finding{Name: "postgres", OK: true, Found: "none yet", Do: "nothing: the first start installs it " + way.name}
		}
	}
	return Finding{Name: "postgres", Found: err.Error(), Do: "install PostgreSQL 15 or later (Debian, Ubuntu: apt-get install postgresql)"}
}

func examineTools(cfg Config) Finding {
	f := Finding{Name: "tools", OK: true}
	builder := tools.Builder{Cache: cfg.Cache}
	var built, missing []string
	for _, t := range tools.All() {
		_, there, err := builder.Path(t)
		if err != nil {
			return Finding{Name: "tools", Found: err.Error(), Do: "get a whole copy of the source"}
		}
		if there {
			built = append(built, string(t))
		} else {
			missing = append(missing, string(t))
		}
	}
	f.Found = fmt.Sprintf("in %s: %s", cfg.Cache, orNone(built))
	if len(missing) > 0 {
		f.Do = "nothing: " + strings.Join(missing, ", ") + " are built when they are first needed"
	}
	return f
}

func examinePrograms(cfg Config) Finding {
	if err := checkBinaries(cfg.Binaries); err != nil {
		return Finding{Name: "programs", OK: true, Found: err.Error(), Do: "make build (make run does it)"}
	}
	return Finding{Name: "programs", OK: true, Found: "all in " + cfg.Binaries}
}

func examineState(l Layout) Finding {
	f := Finding{Name: "state", OK: true, Found: l.State}
	if pid, running := l.running(); running {
		f.Found += fmt.Sprintf(", in use by the stack of process %d", pid)
		return f
	}
	dir := existing(l.State)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		f.OK, f.Do = false, fmt.Sprintf("%s is not writable (%v): set CARESPHERE_STATE to a folder that you may write", dir, err)
	}
	return f
}

// existing returns the closest folder on the way to path that is there.
func existing(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

// A state folder, the tools and their build cache need about this much at first.
const wantedDisk = 6 << 30

func examineDisk(l Layout) Finding {
	dir := existing(l.State)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return Finding{Name: "disk", OK: true, Found: "cannot be told: " + err.Error()}
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) //nolint:unconvert // the types differ by system
	f := Finding{Name: "disk", OK: true, Found: fmt.Sprintf("%d GiB free at %s", free>>30, dir)}
	if free < wantedDisk {
		f.Do = fmt.Sprintf("a first build needs about %d GiB: make room, or set CARESPHERE_STATE and CARESPHERE_CACHE elsewhere", wantedDisk>>30)
		f.OK = free > 1<<30
	}
	return f
}

func examineAccount(l Layout) Finding {
	us := proc.Current()
	home, account, err := PostgresHome(l.Path("postgres"))
	switch {
	case err != nil:
		return Finding{Name: "account", Found: us.Name, Do: err.Error()}
	case account == nil:
		return Finding{Name: "account", OK: true, Found: us.Name}
	case home != l.Path("postgres"):
		return Finding{Name: "account", OK: true, Found: fmt.Sprintf("%s; PostgreSQL runs as %s, which cannot reach %s, so that its files are in %s", us.Name, account.Name, l.State, home)}
	default:
		return Finding{Name: "account", OK: true, Found: fmt.Sprintf("%s; PostgreSQL runs as %s", us.Name, account.Name)}
	}
}

func examinePorts(cfg Config) Finding {
	ports := Ports(cfg.Full)
	f := Finding{Name: "ports", OK: true, Found: fmt.Sprintf("%d to %d are free", cfg.Base, cfg.Port(ports[len(ports)-1]))}
	if _, running := cfg.running(); running {
		f.Found = fmt.Sprintf("from %d on, in use by the stack that runs", cfg.Base)
		return f
	}
	var taken []string
	for _, p := range ports {
		var e *PortTaken
		if errors.As(CheckPort(p.String(), cfg.Port(p)), &e) {
			who := e.Holder
			if who == "" {
				who = "another process"
			}
			taken = append(taken, fmt.Sprintf("%d (%s) by %s", e.Port, p, who))
		}
	}
	if len(taken) > 0 {
		f.OK, f.Found = false, "taken: "+strings.Join(taken, "; ")
		f.Do = "stop what holds them, or set CARESPHERE_PORT_BASE"
	}
	return f
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none yet"
	}
	return strings.Join(list, ", ")
}
