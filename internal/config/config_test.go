package config_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/config"
)

type common struct {
	CA    string     `env:"CARESPHERE_TLS_CA" required:"true"`
	Level slog.Level `env:"CARESPHERE_LOG_LEVEL" default:"info"`
}

type settings struct {
	common
	Dev     bool          `env:"CARESPHERE_DEV"`
	Listen  string        `env:"CARESPHERE_LISTEN" default:"127.0.0.1:8443"`
	Idle    time.Duration `env:"CARESPHERE_IDLE" default:"15m"`
	Workers int           `env:"CARESPHERE_WORKERS" default:"4"`
	Origins []string      `env:"CARESPHERE_ORIGINS"`
	Storage struct {
		URL string `env:"CARESPHERE_BLOB" required:"true"`
	}
	untouched string
}

func from(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestValuesAndDefaults(t *testing.T) {
	got, err := config.From[settings](from(map[string]string{
		"CARESPHERE_TLS_CA": "/ca.crt", "CARESPHERE_BLOB": "file:/blobs", "CARESPHERE_DEV": "1",
		"CARESPHERE_IDLE": "90s", "CARESPHERE_LOG_LEVEL": "debug", "CARESPHERE_ORIGINS": "a, b,,c",
	}))
	require.NoError(t, err)
	require.Equal(t, "/ca.crt", got.CA)
	require.Equal(t, "file:/blobs", got.Storage.URL)
	require.True(t, got.Dev)
	require.Equal(t, 90*time.Second, got.Idle)
	require.Equal(t, slog.LevelDebug, got.Level)
	require.Equal(t, "127.0.0.1:8443", got.Listen)
	require.Equal(t, 4, got.Workers)
	require.Equal(t, []string{"a", "b", "c"}, got.Origins)
	require.Empty(t, got.untouched)
}

func TestEveryProblemIsNamedAtOnceWithoutItsValue(t *testing.T) {
	_, err := config.From[settings](from(map[string]string{
		"CARESPHERE_TLS_CA": "", "CARESPHERE_DEV": "secret-1", "CARESPHERE_IDLE": "secret-2",
		"CARESPHERE_WORKERS": "secret-3", "CARESPHERE_LOG_LEVEL": "secret-4",
	}))
	var wrong *config.Error
	require.True(t, errors.As(err, &wrong))
	var named []string
	for _, p := range wrong.Problems {
		named = append(named, p.Variable)
	}
	require.Equal(t, []string{
		"CARESPHERE_TLS_CA", "CARESPHERE_LOG_LEVEL", "CARESPHERE_DEV", "CARESPHERE_IDLE", "CARESPHERE_WORKERS", "CARESPHERE_BLOB",
	}, named)
	require.NotContains(t, err.Error(), "secret-")
}

func TestUnsupportedFieldsAreRefused(t *testing.T) {
	type odd struct {
		M map[string]string `env:"CARESPHERE_M"`
	}
	_, err := config.From[odd](from(map[string]string{"CARESPHERE_M": "x"}))
	require.ErrorContains(t, err, "CARESPHERE_M")
	_, err = config.From[int](from(nil))
	require.ErrorContains(t, err, "must be a struct")
}

func TestLoadReadsTheProcessEnvironment(t *testing.T) {
	t.Setenv("CARESPHERE_TLS_CA", "/ca")
	t.Setenv("CARESPHERE_BLOB", "file:x")
	got, err := config.Load[settings]()
	require.NoError(t, err)
	require.Equal(t, "/ca", got.CA)
	require.NoError(t, os.Unsetenv("CARESPHERE_BLOB"))
	_, err = config.Load[settings]()
	require.ErrorContains(t, err, "CARESPHERE_BLOB is not set")
}
