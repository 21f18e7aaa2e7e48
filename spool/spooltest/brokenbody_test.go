package spooltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

// bodyBreakages are about what is staged, stored and read.
var bodyBreakages = map[string]breakage{
	"staged bodies are open to all": {
		caught: "Stage/Invisible Second/Shared Second/Invisible",
		bend: func() hooks {
			var writers sync.Map
			return hooks{
				create: func(_ *spool.Memory, w spool.Writer) { writers.Store(w.ID(), w) },
				open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
					b, err := m.Open(ctx, id)
					if w, ok := writers.Load(id); ok && errors.Is(err, spool.ErrNotFound) {
						return w.(spool.Writer).Open()
					}
					return b, err
				},
			}
		},
	},
	"64 KiB and one byte lose one": {
		caught: "Size/Stored Size/Pieces Reopen/Found",
		bend:   func() hooks { return hooks{write: shortOf(64<<10 + 1)} },
	},
	"a size of its own loses a byte": {
		caught: "Size/Stored",
		bend:   func() hooks { return hooks{write: shortOf(oddSize + 1)} },
	},
	"long pieces are cut": {
		caught: "Size/Pieces",
		bend: only(hooks{write: func(w spool.Writer, p []byte) (int, error) {
			_, err := w.Write(p[:min(len(p), 2<<20)])
			return len(p), err
		}}),
	},
	"bodies live for ever": {
		caught: "Body/Lifetime Body/RemovedWhileOpen Size/Removed Readers/Removed Readers/Replaced Replace/Back Replace/Orders Many/Orders Model/Random",
		bend:   func() hooks { return hooks{open: new(graveyard).open} },
	},
	"empty instead of not found": {
		caught: "Readers/Racing Body/NotFound",
		bend: only(hooks{open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
			b, err := m.Open(ctx, id)
			if errors.Is(err, spool.ErrNotFound) {
				return emptyBody{strings.NewReader("")}, nil
			}
			return b, err
		}}),
	},
	"bodies die while they are open": {
		caught: "Readers/Removed Readers/Replaced Body/RemovedWhileOpen Model/Random",
		bend: only(hooks{open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
			b, err := m.Open(ctx, id)
			return lazyBody{b, func() error {
				b, err := m.Open(context.WithoutCancel(ctx), id)
				if err == nil {
					b.Close()
				}
				return err
			}}, err
		}}),
	},
	"what is staged dies with its Writer": {
		caught: "Readers/Staged",
		bend: func() hooks {
			var aborted sync.Map
			return hooks{
				staged: func(w spool.Writer, b spool.Body) spool.Body {
					return lazyBody{b, func() error {
						if _, found := aborted.Load(w.ID()); found {
							return errors.New("the Writer was aborted")
						}
						return nil
					}}
				},
				abort: func(w spool.Writer) error {
					aborted.Store(w.ID(), true)
					return w.Abort()
				},
			}
		},
	},
	"empty bodies are none": {
		caught: "Body/Empty",
		bend: only(hooks{open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
			b, err := m.Open(ctx, id)
			if err == nil && b.Size() == 0 {
				return nil, spool.ErrNotFound
			}
			return b, err
		}}),
	},
	"what is staged reads empty": {
		caught: "Stage/OpenStaged Size/Stored",
		bend: only(hooks{staged: func(_ spool.Writer, b spool.Body) spool.Body {
			return emptyBody{strings.NewReader("")}
		}}),
	},
	"what is staged is read once": {
		caught: "Stage/OpenStaged Body/BigStaged",
		bend: func() hooks {
			var texts sync.Map
			return hooks{staged: func(w spool.Writer, b spool.Body) spool.Body {
				text, err := io.ReadAll(b)
				if err != nil {
					return b
				}
				first, _ := texts.LoadOrStore(w.ID(), string(text))
				return emptyBody{strings.NewReader(first.(string))}
			}}
		},
	},
	"Abort takes back what was committed": {
		caught: "Stage/AbortCommitted",
		bend: func() hooks {
			var owners sync.Map
			return hooks{
				create: func(m *spool.Memory, w spool.Writer) { owners.Store(w.ID(), m) },
				abort: func(w spool.Writer) error {
					m, _ := owners.Load(w.ID())
					for e := range m.(*spool.Memory).Scan(context.Background(), spool.Query{}) {
						if e != nil && e.Body == w.ID() {
							m.(*spool.Memory).Apply(context.Background(), spool.Unit{{Op: spool.Remove, Entry: e}})
						}
					}
					return w.Abort()
				},
			}
		},
	},
	"wrong bytes": {
		caught: "Damage/Body",
		bend: only(hooks{open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
			b, err := m.Open(ctx, id)
			if _, corrupt := errors.AsType[*spool.CorruptError](err); !corrupt {
				return b, err
			}
			return emptyBody{strings.NewReader("!")}, nil
		}}),
	},
	"ReadAt moves the position": {
		caught: "Body/Position Body/Reader",
		bend: only(hooks{
			open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
				b, err := m.Open(ctx, id)
				return seekingBody{b}, err
			},
		}),
	},
	"Writers share what they were given": {
		caught: "Stage/SeveralWriters",
		bend: func() hooks {
			var last spool.Writer
			return hooks{write: func(w spool.Writer, p []byte) (int, error) {
				if last != nil && last != w && strings.Contains(string(p), "a2") {
					return last.Write(p)
				}
				last = w
				return w.Write(p)
			}}
		},
	},
	"Abort keeps what it should discard": {
		caught: "Stage/Abort Unit/AbortedStage",
		bend:   only(hooks{abort: func(spool.Writer) error { return nil }}),
	},
	"the end of big bodies is not read": {
		caught: "Body/BigReadAt",
		bend: only(hooks{
			open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
				b, err := m.Open(ctx, id)
				return shortBody{b}, err
			},
		}),
	},
}

// shortOf returns a write that loses the last byte of a body that gets longer
// than n bytes.
func shortOf(n int) func(w spool.Writer, p []byte) (int, error) {
	var mu sync.Mutex
	lengths := make(map[spool.ID]int)
	return func(w spool.Writer, p []byte) (int, error) {
		mu.Lock()
		lengths[w.ID()] += len(p)
		length := lengths[w.ID()]
		mu.Unlock()
		if length == n {
			_, err := w.Write(p[:len(p)-1])
			return len(p), err
		}
		return w.Write(p)
	}
}

// A graveyard keeps the bodies that were opened.
type graveyard struct{ bodies sync.Map }

func (g *graveyard) open(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
	b, err := m.Open(ctx, id)
	if err == nil {
		text, err := io.ReadAll(b)
		if err == nil {
			g.bodies.Store(id, string(text))
		}
		b.Seek(0, io.SeekStart)
		return b, nil
	}
	if text, found := g.bodies.Load(id); found && errors.Is(err, spool.ErrNotFound) {
		return emptyBody{strings.NewReader(text.(string))}, nil
	}
	return b, err
}

type emptyBody struct{ *strings.Reader }

func (emptyBody) Close() error { return nil }

// A lazyBody is read only as long as alive says nothing.
type lazyBody struct {
	spool.Body
	alive func() error
}

func (b lazyBody) Read(p []byte) (int, error) {
	if err := b.alive(); err != nil {
		return 0, fmt.Errorf("dead: %w", err)
	}
	return b.Body.Read(p)
}

func (b lazyBody) ReadAt(p []byte, off int64) (int, error) {
	if err := b.alive(); err != nil {
		return 0, fmt.Errorf("dead: %w", err)
	}
	return b.Body.ReadAt(p, off)
}

// A seekingBody has ReadAt by Seek and Read.
type seekingBody struct{ spool.Body }

func (b seekingBody) ReadAt(p []byte, off int64) (int, error) {
	if _, err := b.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	return io.ReadFull(b.Body, p)
}

// A shortBody ends early if it is long.
type shortBody struct{ spool.Body }

func (b shortBody) ReadAt(p []byte, off int64) (int, error) {
	const most = 2 << 20
	if off >= most {
		return 0, io.EOF
	}
	return b.Body.ReadAt(p[:min(int64(len(p)), most-off)], off)
}
