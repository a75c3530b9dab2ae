package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// S3Config says how an S3 server over a folder is run.
type S3Config struct {
	// Bin is the server's binary; Dir holds its objects; Log is its log.
	Bin, Dir, Log string
	Port          int
	Server        pki.Pair
	CA            string
	// AccessKey and SecretKey are the only account's.
	AccessKey, SecretKey string
	// Bucket is made if it is not there.
	Bucket string
}

// S3Server is a running S3 server.
type S3Server struct {
	cfg     S3Config
	process *proc.Process
}

// StartS3 starts the server, waits until it answers and makes the bucket.
func StartS3(ctx context.Context, cfg S3Config) (*S3Server, error) {
	if err := CheckPort("s3", cfg.Port); err != nil {
		return nil, err
	}
	objects, metadata := filepath.Join(cfg.Dir, "objects"), filepath.Join(cfg.Dir, "metadata")
	if err := errors.Join(os.MkdirAll(objects, 0o700), os.MkdirAll(metadata, 0o700)); err != nil {
		return nil, fmt.Errorf("making the object store's folders: %w", err)
	}
	process, err := proc.Start(proc.Spec{
		Name: "s3", Path: cfg.Bin,
		Args: []string{
			"--port", "127.0.0.1:" + strconv.Itoa(cfg.Port), "--cert", cfg.Server.Cert, "--key", cfg.Server.Key, "--quiet", "--keep-alive",
			// Metadata beside the objects: not every file system has extended attributes.
			"posix", "--sidecar", metadata, "--dir-perms", "0700", "--file-perms", "0600", objects,
		},
		Env: plainEnv("HOME="+cfg.Dir, "ROOT_ACCESS_KEY="+cfg.AccessKey, "ROOT_SECRET_KEY="+cfg.SecretKey),
		Dir: cfg.Dir, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s := &S3Server{cfg: cfg, process: process}
	if err := process.Ready(ctx, s.ensureBucket); err != nil {
		return nil, errors.Join(err, process.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *S3Server) ensureBucket(ctx context.Context) error {
	https, err := httpsClient(s.cfg.CA)
	if err != nil {
		return err
	}
	transport, ok := https.Transport.(*http.Transport)
	if !ok {
		return errors.New("the client has another transport")
	}
	defer transport.CloseIdleConnections()
	client, err := minio.New(s.Host(), &minio.Options{
		Creds:  credentials.NewStaticV4(s.cfg.AccessKey, s.cfg.SecretKey, ""),
		Secure: true, Transport: transport, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	if err != nil {
		return fmt.Errorf("making an S3 client: %w", err)
	}
	there, err := client.BucketExists(ctx, s.cfg.Bucket)
	if err != nil || there {
		return err
	}
	return client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{})
}

// Host is the server's host:port, over TLS.
func (s *S3Server) Host() string { return "localhost:" + strconv.Itoa(s.cfg.Port) }

// Process is the server, to be watched or stopped.
func (s *S3Server) Process() *proc.Process { return s.process }
