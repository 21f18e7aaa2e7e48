package pipenet_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/deferredqueue/deferredqueue/deferred/internal/pipenet"
)

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pipenet.Listen(2525)
		defer l.Close()
		accepted := make(chan net.Conn, 2)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- c
			}
		}()
		for _, port := range []string{"49152", "49153"} {
			c, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			s := <-accepted
			if got := s.RemoteAddr().String(); got != "127.0.0.1:"+port || c.LocalAddr().String() != got {
				t.Errorf("the client is %s, and calls itself %s; want port %s", got, c.LocalAddr(), port)
			}
			if got := c.RemoteAddr().String(); got != "127.0.0.1:2525" || s.LocalAddr().String() != got {
				t.Errorf("the server is %s, and calls itself %s", got, s.LocalAddr())
			}
			go func() {
				io.WriteString(c, "hello")
				c.Close()
			}()
			if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			s.Close()
		}
		l.Close()
		if _, ok := <-accepted; ok {
			t.Error("Accept returned a connection after Close")
		}
		if _, err := l.Dial(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Dial after Close: %v, want net.ErrClosed", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}
