// Package blob stores objects: signed contracts, evidence, and later the
// tenants' encrypted files. Drivers are a directory (file) and any S3 service
// (s3); both pass one conformance suite, blobtest.
//
// It owns the bytes under its root or bucket. It trusts callers to encrypt what
// is PHI before Put and to authorize before Get. An object is there whole or not
// at all, is never replaced unless Replace asks for it, and never gets a public
// or signed URL.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"
)

// Store keeps objects by key. Every method is safe for concurrent use and
// respects the context's deadline. Errors satisfy errors.Is with one of the Err
// values of this package.
type Store interface {
	// Put stores exactly size bytes of r under a new key. ErrExists when the key is
	// taken, ErrSize when r holds more or fewer bytes; then nothing is stored.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// Replace is Put that takes the place of an object that is there.
	Replace(ctx context.Context, key string, r io.Reader, size int64) error
	// Get returns the object's bytes; the caller closes. ErrNotFound. A read that
	// fails or ends early is an error and never a short object.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// Delete removes the object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// List yields the objects under a prefix in the order of their keys. The prefix
	// is "" or ends with a slash. It ends after the first error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// EnsurePrefix makes the prefix by a marker object, so that it can be seen
	// before it holds anything. It may be repeated.
	EnsurePrefix(ctx context.Context, prefix string) error
	// Health is nil when objects can be read and listed now.
	Health(ctx context.Context) error
}

// Object is what List tells of an object.
type Object struct {
	Key        string
	Size       int64
	ModifiedAt time.Time
}

// Marker is the name of the object that EnsurePrefix makes under the prefix.
const Marker = "prefix-marker"

// What can go wrong. Drivers wrap these with context.
var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("no such object")
	// ErrExists: the key is taken, and Put does not overwrite.
	ErrExists = errors.New("the object exists already")
	// ErrSize: the reader did not hold exactly the bytes that were announced.
	ErrSize = errors.New("the object has another size than announced")
	// ErrKey: not a valid key or prefix; a defect of the caller.
	ErrKey = errors.New("not a valid object key")
	// ErrUnavailable: the store cannot be reached or did not answer in time. Safe
	// to try again.
	ErrUnavailable = errors.New("the object store is not available")
	// ErrAuth: the store refused our credentials.
	ErrAuth = errors.New("the object store refused our credentials")
)

var segmentForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._=-]*$`)

const maxKey = 512

// CheckKey returns ErrKey unless the key is one or more segments of letters,
// digits and `._=-` with a slash between, none empty, none beginning with a dot
// or dash, at most 512 bytes in all. Such a key means the same to every driver
// and cannot leave its root.
func CheckKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("blob: key length: %w", ErrKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if !segmentForm.MatchString(segment) || len(segment) > 200 {
			return fmt.Errorf("blob: key form: %w", ErrKey)
		}
	}
	return nil
}

// CheckPrefix returns ErrKey unless the prefix is a key with a slash at its end.
func CheckPrefix(prefix string) error {
	key, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("blob: a prefix ends with a slash: %w", ErrKey)
	}
	return CheckKey(key)
}

// Config says which driver and where.
type Config struct {
	// URL is `file:DIR` or `s3:https://host:port/bucket`.
	URL string `env:"CARESPHERE_BLOB" required:"true"`
	// CAFile is the PEM file that the S3 service's certificate is verified with.
	CAFile string `env:"CARESPHERE_TLS_CA"`
	// AccessKeyFile and SecretKeyFile hold the S3 credentials.
	AccessKeyFile string `env:"CARESPHERE_S3_ACCESS_KEY"`
	SecretKeyFile string `env:"CARESPHERE_S3_SECRET_KEY"`
	// Region is the S3 region; "" means us-east-1.
	Region string `env:"CARESPHERE_S3_REGION"`
}

// Open returns the configured driver. An S3 service that is down is not an error
// here: calls give ErrUnavailable until it is back.
func Open(cfg Config) (Store, error) {
	scheme, rest, _ := strings.Cut(cfg.URL, ":")
	switch scheme {
	case "file":
		return openFile(rest)
	case "s3":
		return openS3(rest, cfg)
	default:
		return nil, fmt.Errorf("blob: unknown driver %q: use file:DIR or s3:https://host:port/bucket", scheme)
	}
}
