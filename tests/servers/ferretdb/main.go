// A server that speaks MongoDB's wire protocol and keeps its data in SQLite files, for the tests.
//
// Arguments: the port on 127.0.0.1 (0 for any), and the folder of the files. Prints "ready PORT" when it answers;
// ends on SIGTERM.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: ferretdb PORT FOLDER")
		os.Exit(2)
	}

	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(port, folder string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	absolute, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(absolute, 0o700); err != nil {
		return err
	}

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:" + port},
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Handler:   "sqlite",
		SQLiteURL: "file:" + absolute + "/",
	})
	if err != nil {
		return err
	}

	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	address, err := url.Parse(server.MongoDBURI()) // waits for the listener
	if err != nil {
		return err
	}
	fmt.Println("ready", address.Port())

	return <-ended
}
