;; A cluster of 128 stars that falls together under its own gravity, in 64-bit floats.
;;
;; Total mass, radius at the start and the constant of gravity are 1. A unit of the job is one unit of time: 512 steps by
;; the leapfrog rule, each half a kick, a drift, new forces, half a kick. Only + - * / and square roots, which IEEE 754
;; fixes to the bit. Nothing branches on the stars, so that every unit takes the same fuel.
;;
;;       0  the job's seed, 32 bytes        4096  velocities, in the same order
;;      32  the generator's state           7168  accelerations
;;    1024  places: 128 x, 128 y, 128 z    65536  the film: after unit i, 128 × (x, y, z) in 32 bits, 1536 bytes each
(module
  (memory (export "memory") 3 3)
  (global (export "seed") i32 (i32.const 0))
  (global $axis i32 (i32.const 1024))    ;; bytes of 128 floats, from one axis to the next
  (global $triple i32 (i32.const 3072))  ;; bytes of three axes
  (global $frame i32 (i32.const 1536))   ;; bytes of a frame of the film

  ;; A number in [-1, 1) by splitmix64: integers, so that chance is the same everywhere.
  (func $draw (result f64) (local $z i64)
    (local.set $z (i64.add (i64.load (i32.const 32)) (i64.const 0x9E3779B97F4A7C15)))
    (i64.store (i32.const 32) (local.get $z))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 30)))
                           (i64.const 0xBF58476D1CE4E5B9)))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 27)))
                           (i64.const 0x94D049BB133111EB)))
    (local.set $z (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 31))))
    (f64.sub (f64.mul (f64.convert_i64_u (i64.shr_u (local.get $z) (i64.const 11))) (f64.const 0x1p-52))
             (f64.const 1)))

  ;; Every star's acceleration: the sum over all stars of 1/128 · d / (d² + 1/4096)^(3/2).
  (func $pull (local $i i32) (local $j i32) (local $x f64) (local $y f64) (local $z f64)
              (local $dx f64) (local $dy f64) (local $dz f64) (local $r f64)
              (local $ax f64) (local $ay f64) (local $az f64)
    (loop $star
      (local.set $x (f64.load offset=1024 (local.get $i)))
      (local.set $y (f64.load offset=2048 (local.get $i)))
      (local.set $z (f64.load offset=3072 (local.get $i)))
      (local.set $ax (f64.const 0))
      (local.set $ay (f64.const 0))
      (local.set $az (f64.const 0))
      (local.set $j (i32.const 0))
      (loop $other
        (local.set $dx (f64.sub (f64.load offset=1024 (local.get $j)) (local.get $x)))
        (local.set $dy (f64.sub (f64.load offset=2048 (local.get $j)) (local.get $y)))
        (local.set $dz (f64.sub (f64.load offset=3072 (local.get $j)) (local.get $z)))
        (local.set $r (f64.add (f64.add (f64.mul (local.get $dx) (local.get $dx))
                                        (f64.mul (local.get $dy) (local.get $dy)))
                               (f64.add (f64.mul (local.get $dz) (local.get $dz)) (f64.const 0x1p-12))))
        (local.set $r (f64.div (f64.const 0x1p-7) (f64.mul (local.get $r) (f64.sqrt (local.get $r)))))
        (local.set $ax (f64.add (local.get $ax) (f64.mul (local.get $dx) (local.get $r))))
        (local.set $ay (f64.add (local.get $ay) (f64.mul (local.get $dy) (local.get $r))))
        (local.set $az (f64.add (local.get $az) (f64.mul (local.get $dz) (local.get $r))))
        (br_if $other (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 8))) (global.get $axis))))
      (f64.store offset=7168 (local.get $i) (local.get $ax))
      (f64.store offset=8192 (local.get $i) (local.get $ay))
      (f64.store offset=9216 (local.get $i) (local.get $az))
      (br_if $star (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (global.get $axis)))))

  ;; Three axes at `to` become themselves + `time` times the three axes at `from`.
  (func $move (param $to i32) (param $from i32) (param $time f64) (local $end i32)
    (local.set $end (i32.add (local.get $to) (global.get $triple)))
    (loop $number
      (f64.store (local.get $to)
        (f64.add (f64.load (local.get $to)) (f64.mul (f64.load (local.get $from)) (local.get $time))))
      (local.set $from (i32.add (local.get $from) (i32.const 8)))
      (br_if $number (i32.lt_u (local.tee $to (i32.add (local.get $to) (i32.const 8))) (local.get $end)))))

  ;; The places of now, in 32 bits, as frame `index` of the film.
  (func $film (param $index i32) (local $to i32) (local $i i32)
    (local.set $to (i32.mul (local.get $index) (global.get $frame)))
    (loop $star
      (f32.store offset=65536 (local.get $to) (f32.demote_f64 (f64.load offset=1024 (local.get $i))))
      (f32.store offset=65540 (local.get $to) (f32.demote_f64 (f64.load offset=2048 (local.get $i))))
      (f32.store offset=65544 (local.get $to) (f32.demote_f64 (f64.load offset=3072 (local.get $i))))
      (local.set $to (i32.add (local.get $to) (i32.const 12)))
      (br_if $star (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (global.get $axis)))))

  ;; Stars at chance places of the unit ball, at rest. The seed is another one for every chunk.
  (func (export "init") (param $chunk i32) (local $i i32) (local $x f64) (local $y f64) (local $z f64)
    (i64.store (i32.const 32) (i64.load (i32.const 0)))
    (loop $star
      (local.set $x (call $draw))
      (local.set $y (call $draw))
      (local.set $z (call $draw))
      (br_if $star (f64.gt (f64.add (f64.mul (local.get $x) (local.get $x))
                                    (f64.add (f64.mul (local.get $y) (local.get $y))
                                             (f64.mul (local.get $z) (local.get $z))))
                           (f64.const 1)))
      (f64.store offset=1024 (local.get $i) (local.get $x))
      (f64.store offset=2048 (local.get $i) (local.get $y))
      (f64.store offset=3072 (local.get $i) (local.get $z))
      (br_if $star (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (global.get $axis))))
    (call $pull))

  ;; One unit. The film has room for 85 frames: status 1 beyond.
  (func (export "step") (param $index i32) (result i32) (local $n i32)
    (if (i32.ge_u (local.get $index) (i32.const 85)) (then (return (i32.const 1))))
    (local.set $n (i32.const 512))
    (loop $again
      (call $move (i32.const 4096) (i32.const 7168) (f64.const 0x1p-10))
      (call $move (i32.const 1024) (i32.const 4096) (f64.const 0x1p-9))
      (call $pull)
      (call $move (i32.const 4096) (i32.const 7168) (f64.const 0x1p-10))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (call $film (local.get $index))
    (i32.const 0)))
