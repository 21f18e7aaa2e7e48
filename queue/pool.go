package queue

import "sync"

// A pool runs tasks on goroutines that it reuses: a goroutine whose task is
// done waits for the next one, so that there are as many as ran at once, and
// none per message. It is the owner of every goroutine of a Scheduler but the
// one that Run is called on.
type pool struct {
	mu struct {
		sync.Mutex
		idle   []chan func()
		count  int // goroutines, idle ones included
		closed bool
	}
	done chan struct{} // closed when the pool is closed and its last goroutine has ended
}

// maxIdle bounds the goroutines that wait for a task.
const maxIdle = 128

func newPool() *pool { return &pool{done: make(chan struct{})} }

// run starts task and does not wait for it. After close it still does, as long
// as other tasks are running, so that a task can always have another one end
// what it began; it reports whether it did.
func (p *pool) run(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.idle); n > 0 {
		ch := p.mu.idle[n-1]
		p.mu.idle = p.mu.idle[:n-1]
		ch <- task
		return true
	}
	if p.mu.closed && p.mu.count == 0 {
		return false
	}
	p.mu.count++
	go p.work(task)
	return true
}

func (p *pool) work(task func()) {
	// Deferred, because a handler may end its goroutine (runtime.Goexit).
	defer p.leave()
	next := make(chan func(), 1)
	for task != nil {
		task()
		if !p.park(next) {
			return
		}
		task = <-next // nil: the pool was closed
	}
}

func (p *pool) park(next chan func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || len(p.mu.idle) >= maxIdle {
		return false
	}
	p.mu.idle = append(p.mu.idle, next)
	return true
}

func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.count--
	p.endIfDone()
}

func (p *pool) endIfDone() {
	if p.mu.closed && p.mu.count == 0 {
		close(p.done)
	}
}

// enter makes a task of what its caller does until it calls leave, so that close
// waits for it. false: the pool is closed, and its last task has ended.
func (p *pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed && p.mu.count == 0 {
		return false
	}
	p.mu.count++
	return true
}

// close lets the goroutines end once their tasks are done; done tells when.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	p.mu.closed = true
	for _, ch := range p.mu.idle {
		close(ch)
	}
	p.mu.idle = nil
	p.endIfDone()
}
