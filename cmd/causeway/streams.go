package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/streams"
)

// server is how a verb finds the broker.
type server struct {
	NATS        string `name:"nats" help:"URL of the NATS server." default:"nats://127.0.0.1:4222" env:"CAUSEWAY_NATS_URL" placeholder:"URL"`
	Credentials string `help:"NATS credentials file." env:"CAUSEWAY_NATS_CREDENTIALS" placeholder:"FILE" xor:"login"`
	NKey        string `name:"nkey" help:"File with an nkey seed." env:"CAUSEWAY_NATS_NKEY" placeholder:"FILE" xor:"login"`
	CA          string `name:"ca" help:"PEM certificates that the server's has to be signed by." placeholder:"FILE"`
	Certificate string `name:"nats-certificate" help:"PEM certificate of ours, for a server that asks for one." env:"CAUSEWAY_NATS_CERTIFICATE" placeholder:"FILE" and:"certificate"`
	Key         string `name:"nats-key" help:"Its key." env:"CAUSEWAY_NATS_KEY" placeholder:"FILE" and:"certificate"`
}

func (s server) login() bus.Login {
	return bus.Login{Credentials: s.Credentials, NKey: s.NKey, CA: s.CA, Certificate: s.Certificate, Key: s.Key}
}

func (s server) connect(ctx context.Context) (*bus.Conn, error) {
	return bus.Connect(ctx, bus.Options{URL: s.NATS, Name: "causeway", Login: s.login()})
}

type streamsCmd struct {
	Permissions permissionsCmd `cmd:"" help:"Print what each stage, and a subscriber, has to be allowed at the broker, for a server's configuration."`
	Manifests   manifestsCmd   `cmd:"" help:"Print streams and buckets as objects of the JetStream controller for Kubernetes."`
	Apply       applyCmd       `cmd:"" help:"Create what is missing and update what differs, printing each difference. A difference that would drop messages is refused."`
}

type applyCmd struct {
	server
	DryRun   bool `help:"Only print the differences."`
	JSON     bool `name:"json" help:"Print one JSON object a line."`
	Replicas int  `help:"Keep every stream and bucket on this many servers of the cluster. 0 leaves it as it is; new ones have 1." placeholder:"N"`
}

func (a *applyCmd) Run(ctx context.Context) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	differences, err := streams.Apply(ctx, c.JetStream(), a.DryRun)
	if err == nil && a.Replicas > 0 {
		var replicas []streams.Difference
		replicas, err = streams.Replicate(ctx, c.JetStream(), a.Replicas, a.DryRun)
		differences = append(differences, replicas...)
	}
	if a.JSON {
		return errors.Join(err, printLines(os.Stdout, differences))
	}
	for _, d := range differences {
		fmt.Println(d)
	}
	if err == nil && len(differences) == 0 {
		fmt.Println("nothing differs")
	}
	return err
}

type permissionsCmd struct{}

func (permissionsCmd) Run() error {
	_, err := fmt.Print(streams.PermissionsConfig())
	return err
}

type manifestsCmd struct {
	Replicas int `help:"Servers that keep each of them." default:"3" placeholder:"N"`
}

func (m *manifestsCmd) Run() error {
	text, err := streams.Manifests(m.Replicas)
	if err != nil {
		return err
	}
	_, err = fmt.Print(text)
	return err
}

func printStatus(out io.Writer, status []streams.StreamStatus) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "STREAM\tMESSAGES\tKIB\tLAST\tWHEN") // the error comes with Flush
	for _, s := range status {
		when := "never"
		if !s.LastTime.IsZero() && s.Last > 0 {
			when = s.LastTime.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\n", s.Name, s.Messages, s.Bytes/1024, s.Last, when)
	}
	_, _ = fmt.Fprintln(t, "\nCONSUMER\tON\tWAITING\tUNDER WAY\tREDELIVERED")
	for _, s := range status {
		for _, c := range s.Consumers {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\n", c.Durable, s.Name, c.Pending, c.Unacked, c.Redelivered)
		}
	}
	return t.Flush()
}
