package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serve runs a nats-server until it is told to stop. syncAlways is the
// server's `sync_interval: always`.
func serve(store string, syncAlways bool, profile string) error {
	stopProfile, err := profiled(profile)
	if err != nil {
		return err
	}
	defer stopProfile()
	s, err := server.NewServer(&server.Options{ServerName: "bench", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: store,
		MaxPayload: 8 << 20, NoSigs: true, NoLog: true, SyncAlways: syncAlways})
	if err != nil {
		return fmt.Errorf("nats server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		return fmt.Errorf("nats server: not ready after 20 s")
	}
	fmt.Println(s.ClientURL())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	s.Shutdown()
	return nil
}

// profiled begins a CPU profile of this process in the file of that name, if
// it has one.
func profiled(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return pprof.StopCPUProfile, pprof.StartCPUProfile(f)
}

// child is a process of this program.
type child struct {
	cmd   *exec.Cmd
	said  string        // the first line that it wrote
	ended chan struct{} // closed when it is no more
}

// start starts this program with args, and waits for its first line.
func start(args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, args...), ended: make(chan struct{})}
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = fmt.Fscanln(out, &c.said)
	go func() { _ = c.cmd.Wait(); close(c.ended) }() // it has said why it ended
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("%v: it ended before it was ready", args)
	}
	return c, nil
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}
