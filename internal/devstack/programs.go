package devstack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// The platform's own programs as a stack runs them. Two workers share the cell.
const (
	ControlPlane = "controlplane"
	Provisioner  = "provisioner"
	Router       = "router"
	WorkerA      = "worker-a"
	WorkerB      = "worker-b"
)

// Programs lists them in the order in which they are started.
func Programs() []string { return []string{ControlPlane, Provisioner, WorkerA, WorkerB, Router} }

// Binaries lists the files that must be in Config.Binaries.
func Binaries() []string { return []string{ControlPlane, Provisioner, "dataplane", Router} }

// HealthPort is where a program answers /livez, /readyz and /metrics.
func HealthPort(program string) Port {
	return map[string]Port{
		ControlPlane: PortHealthControlPlane, Provisioner: PortHealthProvisioner, Router: PortHealthRouter,
		WorkerA: PortHealthWorkerA, WorkerB: PortHealthWorkerB,
	}[program]
}

// program says how one of the platform's programs is started: the environment is
// its whole configuration.
func (s *services) program(cfg Config, name string) proc.Spec {
	binary, env := name, map[string]string{}
	switch name {
	case ControlPlane:
		env = s.controlPlaneEnv(cfg)
	case Provisioner:
		env = s.provisionerEnv(cfg)
	case Router:
		env = s.routerEnv(cfg)
	case WorkerA:
		binary, env = "dataplane", s.workerEnv(cfg, name, PortWorkerA)
	case WorkerB:
		binary, env = "dataplane", s.workerEnv(cfg, name, PortWorkerB)
	}
	s.commonEnv(cfg, env, name, s.keys.roles[binary])
	list := plainEnv()
	for k, v := range env {
		list = append(list, "CARESPHERE_"+k+"="+cfg.detour(k, v))
	}
	return proc.Spec{Name: name, Path: filepath.Join(cfg.Binaries, binary), Env: list, Dir: cfg.State, Log: cfg.Log(name)}
}

// detour leads an address in a program's setting to where Via says. What a program
// listens on, or tells others of itself, stays.
func (c Config) detour(setting, value string) string {
	if strings.HasSuffix(setting, "LISTEN") || strings.HasSuffix(setting, "ORIGIN") || setting == "WORKER_URL" {
		return value
	}
	for server, port := range c.Via {
		value = strings.ReplaceAll(value, ":"+strconv.Itoa(c.Port(server)), ":"+strconv.Itoa(port))
	}
	return value
}

func (s *services) commonEnv(cfg Config, env map[string]string, name string, pair pki.Pair) {
	env["TLS_CA"], env["TLS_CERT"], env["TLS_KEY"] = s.keys.ca.CertPath(), pair.Cert, pair.Key
	env["HEALTH_LISTEN"] = cfg.Address(HealthPort(name))
	env["PUBLIC_ORIGIN"], env["OPERATOR_ORIGIN"] = cfg.URL(PortPublic), cfg.URL(PortOperators)
	env["DEV"] = "1"
	for _, passed := range []string{"LOG_LEVEL", "TRACES"} {
		if v := os.Getenv("CARESPHERE_" + passed); v != "" {
			env[passed] = v
		}
	}
	if cfg.Traces {
		env["TRACES"] = "file:" + cfg.Layout.Traces(name)
	}
}

func (s *services) controlPlaneEnv(cfg Config) map[string]string {
	env := map[string]string{
		"CONTROL_DSN":       s.postgres.DSN(ControlDatabase, "controlplane"),
		"LISTEN":            cfg.Address(PortControlPlane),
		"OPERATOR_LISTEN":   cfg.Address(PortOperators),
		"OPERATOR_TLS_CERT": s.keys.local.Cert, "OPERATOR_TLS_KEY": s.keys.local.Key,
		"KRATOS_PUBLIC_URL": cfg.URL(PortKratos), "KRATOS_ADMIN_URL": cfg.URL(PortKratosAdmin),
		"OPS_KRATOS_PUBLIC_URL": cfg.URL(PortOpsKratos), "OPS_KRATOS_ADMIN_URL": cfg.URL(PortOpsKratosAdmin),
		"ROUTE_KEY":   cfg.Path("keys", "route.key"),
		"BAA_KEY":     cfg.Path("keys", "baa.key"),
		"SECRET":      cfg.Path("secrets", "controlplane.secret"),
		"COURIER_KEY": cfg.Path("secrets", "courier.key"),
		"MAIL":        "outbox",
	}
	s.objectsEnv(cfg, env)
	s.paymentsEnv(cfg, env)
	return env
}

func (s *services) provisionerEnv(cfg Config) map[string]string {
	env := map[string]string{
		"CONTROL_DSN":     s.postgres.DSN(ControlDatabase, "provisioner"),
		"CELL_ID":         CellID,
		"CELL_OWNER_DSN":  s.postgres.DSN(CellDatabase, "cell_owner"),
		"CELL_SEALER_DSN": s.postgres.DSN(CellDatabase, "cell_sealer"),
		"AUDIT_KEY":       cfg.Path("keys", "audit.key"),
		"TENANT_CA_CERT":  s.keys.tenantCA.CertPath(), "TENANT_CA_KEY": s.keys.tenantCA.KeyPath(),
		"PROBE_KEY":        cfg.Path("keys", "probe.key"),
		"ISOLATION_KEY":    cfg.Path("keys", "isolation.key"),
		"CONTROLPLANE_URL": cfg.URL(PortControlPlane), "ROUTE_PUB": cfg.Path("keys", "route.pub"),
	}
	s.objectsEnv(cfg, env)
	s.paymentsEnv(cfg, env)
	s.keysEnv(cfg, env, "provisioner")
	if cfg.Full {
		env["VAULT_REWRAPPER_ROLE_ID"] = cfg.Path("secrets", "vault", "rewrapper.role-id")
		env["VAULT_REWRAPPER_SECRET_ID"] = cfg.Path("secrets", "vault", "rewrapper.secret-id")
	}
	return env
}

func (s *services) workerEnv(cfg Config, id string, listen Port) map[string]string {
	env := map[string]string{
		"LISTEN": cfg.Address(listen), "CELL_ID": CellID, "WORKER_ID": id, "WORKER_URL": cfg.URL(listen),
		"CELL_DSN":          s.postgres.DSN(CellDatabase, "cell_worker"),
		"KRATOS_PUBLIC_URL": cfg.URL(PortKratos), "CONTROLPLANE_URL": cfg.URL(PortControlPlane),
		"ROUTE_PUB":  cfg.Path("keys", "route.pub"),
		"PROBE_PUB":  cfg.Path("keys", "probe.pub"),
		"AUDIT_PUB":  cfg.Path("keys", "audit.pub"),
		"EXPORT_KEY": cfg.Path("keys", "export.key"),
		"STATE_DIR":  cfg.Path(id),
	}
	s.keysEnv(cfg, env, "worker")
	return env
}

func (s *services) routerEnv(cfg Config) map[string]string {
	return map[string]string{
		"LISTEN":           cfg.Address(PortPublic),
		"LISTEN_TLS_CERT":  s.keys.local.Cert,
		"LISTEN_TLS_KEY":   s.keys.local.Key,
		"CONTROLPLANE_URL": cfg.URL(PortControlPlane),
		"ROUTE_PUB":        cfg.Path("keys", "route.pub"),
		"STATE_DIR":        cfg.Path("router"),
	}
}

func (s *services) keysEnv(cfg Config, env map[string]string, role string) {
	env["SHRED_LEDGER"] = cfg.Path("shredded-keys")
	env["KMS"] = "keyring:" + cfg.Path("keyring")
	if cfg.Full {
		env["KMS"] = "vault:" + cfg.URL(PortVault)
		env["VAULT_ROLE_ID"] = cfg.Path("secrets", "vault", role+".role-id")
		env["VAULT_SECRET_ID"] = cfg.Path("secrets", "vault", role+".secret-id")
	}
}

func (s *services) objectsEnv(cfg Config, env map[string]string) {
	env["BLOB"] = "file:" + cfg.Path("blobs")
	if cfg.Full {
		env["BLOB"] = "s3:" + cfg.URL(PortS3) + "/" + Bucket
		env["S3_ACCESS_KEY"] = cfg.Path("secrets", "s3.access")
		env["S3_SECRET_KEY"] = cfg.Path("secrets", "s3.secret")
	}
}

func (s *services) paymentsEnv(cfg Config, env map[string]string) {
	if cfg.Full {
		env["STRIPE_KEY"] = cfg.Path("secrets", "stripe.key")
		env["STRIPE_URL"] = cfg.URL(PortStripe)
	}
}
