"""Vehicles, things of the house and of leisure, each standing on its origin (see `shapes`)."""

DRAWINGS = """
car | .36 2.1 .82 | car, automobile | red, blue, green, yellow, white, black, silver \
| parked, driving, stopped
    shadow 0,2 105,9
    arch c v70 -100,16 -102,40 -94,50 -62,54 -34,80 26,82 56,56 92,48 101,38 100,16
    rect c-50 r3 -98,12 98,20
    poly #578 v25 -50,55 -30,75 -5,76 -5,55
    poly #578 v25 0,55 0,76 23,76 43,55
    poly #def a50 n2 d40,0 -44,56 -36,56 -24,74 -30,74
    line c-45 w1.2 n2 d52,0 -55,20 -55,54
    rect c+40 n2 d50,0 -46,46 -38,48.5
    oval #ffc v50 95,38 4.5,5
    rect #c22 -102,34 -95,44
    wheel -60,20 20,0
    wheel 60,20 20,0
    gloss a50 -10,50 50,1.8
truck | .42 2.45 1.2 2 | truck, cargo truck | red, blue, green, white | parked, driving, stopped
    shadow 0,2 120,9
    rect #334 v40 -115,20 105,30
    rect #eee|c+45 v35 g8 -118,30 50,120
    line #bbb w1 n7 d24,0 -106,32 -106,118
    rect c a85 -118,66 50,78
    poly c v75 54,22 54,100 62,106 90,105 108,64 116,58 118,22
    poly #578 v25 66,64 66,94 86,94 100,64
    poly #def a50 68,66 75,66 84,92 77,92
    line c-40 w1.2 60,26 60,98
    rect #aab v60 106,24 120,32
    oval #ffc v40 112,42 4.5,5
    rect #aab v80 50,34 55,122
    wheel -95,19 19,0
    wheel -50,19 19,0
    wheel 86,19 19,0
bus | .42 2.4 1.06 2 | school bus, bus |  | parked, driving, stopped
    shadow 0,2 120,9
    let c ~#fb1
    rect c v55 r10 -115,16 82,106
    poly c v70 80,16 80,64 110,58 118,46 118,16
    rect #222 -115,30 80,33
    rect #222 n2 d0,8 -115,46 80,49
    rect #578 v25 n6 d28,0 -106,64 -84,92
    poly #def a50 n6 d28,0 -104,65 -98,65 -88,91 -94,91
    rect #578 v25 62,22 79,92
    rect #222 n9 d8,0 -56,96 -51,102
    rect #222 v50 106,14 124,22
    oval #ffc v40 114,36 4.5,5
    wheel #db4 -72,18 18,0
    wheel #db4 94,18 18,0
bicycle | .42 1.9 1.06 | bicycle, bike | red, blue, green, black, yellow | parked, standing, leaning
    shadow a30 0,1 95,5
    line #aaa w.7 n12 o15 at-58,36 -91,36 -25,36
    line #aaa w.7 n12 o15 at58,36 91,36 25,36
    arc #222 w4.5 m 58,36 34,34 0,360
    arc #bbb w1.6 m 58,36 31,31 0,360
    line c w5 v70 -58,36 -6,34 42,84 -24,86 -58,36
    line c w5 v70 -6,34 -24,86
    line c w5 v70 42,84 58,36
    line #aab w3.5 -24,86 -27,97
    blob #222 v60 -46,99 -40,104 -20,102 -10,99 -25,95
    line #aab w4 42,84 38,100
    bend #222 w3.5 38,100 52,106 60,98 50,90
    oval #444 v40 -6,34 10,10
    line #444 w3 -6,34 4,20
    rect #222 -2,17 12,21
airplane | .44 2.4 1.1 3 .18 | airplane, plane, jet | red, blue, green | flying
    poly #bbc v50 -10,10 18,10 -20,55 -34,55
    blob #eef v90 -105,14 -60,2 60,-6 96,0 108,10 96,20 60,25 -60,22
    poly c v50 -106,14 -118,60 -100,60 -66,20
    poly #99a v40 -100,14 -84,14 -116,-6 -126,-4
    poly #ccd v60 -14,4 24,4 -32,-46 -50,-46
    rect c -95,7.5 102,9.5
    rect #457 n18 d8.5,0 -72,12.5 -68.5,16.5
    poly #346 90,19 99,18.5 103,14 93,14
    rect #789 v90 r5 n2 d-18,-16 -4,-21 19,-11
boat | .4 1.6 1.5 | sailboat, boat, sailing boat | white, red, blue, brown | sailing, floating
    shadow a30 0,0 72,7
    line #753 w3.5 v60 0,20 0,152
    let d #ffe|#ffe|c
    arch #ffe v35 -3,34 -62,34 -36,80 -3,150
    arch d v35 4,36 56,34 34,74 4,136
    line #ccb w.8 -50,60 -3,60
    line #ccb w.8 -38,85 -3,85
    line #ccb w.8 -25,110 -3,110
    poly c v80 -72,30 82,32 62,6 46,0 -52,0 -64,8
    poly c+65 -72,30 82,32 78,26 -70,24
    line #555 w.8 82,32 0,150
bench | .42 2 .95 2 | bench, wooden bench |  | standing, sitting
    shadow 0,2 100,8
    let d ~#963
    line #333 w6 v60 m 82,0 82,42 82,95
    line #222 w5 n2 d164,0 -70,0 -76,40
    rect ~d v50 g30 n3 d0,14 -98,56 98,66
    rect ~d-8 v40 g30 n3 d0,6 -100,32 100,37
clock | .34 1.05 1 2 | clock, wall clock | red, black, white, blue | hanging
    oval #112 a30 s4 5,46 50,50
    oval c v80 0,50 50,50
    oval #ffe v15 0,50 42.5,42.5
    line #222 w1.4 n12 o30 at0,50 0,85.5 0,89.5
    line #222 w3 n4 o90 at0,50 0,82 0,89.5
    line #222 w3.6 spin at0,50 0,45 0,71
    line #222 w2.4 spin at0,50 0,45 0,82
    oval #c33 0,50 3,3
laptop | .44 1.65 1.06 1 | laptop, laptop computer |  | open, sitting
    shadow 0,3 86,9
    rect #333 v25 r4 -62,22 62,106
    in rect -57,29 57,101
    rect #47c|#639|#277|#eef -57,29 57,101
    oval #fff a40 s12 25,40 70,45
    rect #fff -50,50 5,93
    rect #789 n5 d0,7 -45,58 -10,60
    out
    poly #bbb v35 -62,22 62,22 82,5 -82,5
    rect #999 r2 -82,1 82,5
    rect #333 n13 d8.2,0 -53,17.4 -46.5,19
    rect #333 n13 d8.6,0 -56,14.8 -49,16.4
    rect #333 n13 d9,0 -59,12.2 -51.5,13.8
    poly #aaa -14,8.5 14,8.5 16,5.5 -16,5.5
sofa | .46 2.25 .96 1 | sofa, couch | blue, red, green, gray, brown | standing, placed
    shadow 0,3 110,10
    rect #432 m 85,0 95,12
    rect c v60 r12 g20 -98,30 98,96
    rect c+6 v70 r10 g20 n2 d86,0 -86,42 0,88
    rect c+14 v70 r7 g20 n2 d87,0 -87,28 1,48
    rect c-12 v50 r5 g20 -100,10 100,30
    rect c v80 r12 g20 m 86,10 114,64
    poly #e34|#fc3|#e8b|#fff v80 p60 -80,46 -66,80 -36,74 -46,44
teddy bear | .44 .95 1.25 | teddy bear, stuffed bear | brown, golden, pink | sitting
    shadow 0,3 48,8
    let d c+45
    oval c v90 g50 m 21,113 10.5,10.5
    oval d v40 m 21,112 6,6
    oval c v90 g50 m t34 34,50 10,22
    oval c v100 g60 0,40 31,36
    oval d v40 g40 0,38 20,24
    oval c v100 g50 m 28,15 17,15.5
    oval d v30 m 28,14 10,9
    oval c v100 g50 0,93 28.5,26
    oval d v70 g30 0,84 14,11
    oval #322 v50 0,89 5,3.6
    line #433 w1.4 0,86 0,81
    oval #222 v40 m 10,99 3,3.3
    poly #c33 v60 m 0,67 17,75 17,58
umbrella | .42 1.6 1.36 | umbrella | red, blue, green, yellow, pink, purple | standing, open
    shadow a25 0,1 50,5
    line #543 w3 v50 0,100 0,14
    arc #632 w4 v60 9,14 9,10 180,350
    cap c v70 0,74 78,52 0,180
    poly c+25 a75 0,126 -18,112 -39,76 -20,79 0,76
    poly c+25 a75 0,126 40,114 70,92 78,75 58,79 39,75
    bend c-30 w1.2 m 0,126 29,108 39,75
    line c-30 w1.2 0,126 0,75
    line #443 w2.8 0,124 0,136
soccer ball | .28 1.05 1 2 | soccer ball, football |  | lying, resting
    shadow 6,3 46,9
    in oval 0,50 50,50
    oval #fff v100 0,50 50,50
    poly #222 v30 0,66 16,55 10,36 -10,36 -16,55
    line #555 w1.8 n5 o72 at0,50 0,66 0,80
    poly #222 v30 n5 o72 at0,50 0,80 14,90 9,106 -9,106 -14,90
    out
    gloss a40 -18,74 10,7
beach ball | .3 1.05 1 2 | beach ball, colorful ball |  | lying, resting
    shadow 6,3 46,9
    in oval 0,50 50,50
    oval #fff v90 0,50 50,50
    poly #e33 v50 10,62 70,62 48,105
    poly #fc3 v50 10,62 -20,112 -62,86
    poly #37d v50 10,62 -58,20 0,-12
    out
    oval #fff v30 10,62 6,5.5
    gloss -20,76 10,7
balloon | .34 .75 1.3 4 .15 | balloon | red, blue, green, yellow, pink, purple | floating, flying
    bend #776 w1.2 0,42 6,24 -5,6 2,-20
    blob c v110 sym 0,44 20,62 36,90 26,120 0,130
    poly c-20 -6,39 6,39 0,47
    gloss a70 -14,108 6,10
kite | .34 1 1.6 3 .5 | kite | red, blue, green, yellow, pink, purple | flying, soaring
    bend #665 w1.6 0,0 12,-20 -10,-42 8,-66 -4,-90
    poly #e34|#fc3 v30 m n3 d2,-28 4,-16 15,-10 15,-22
    let d #fd3|#36c
    poly c v40 0,66 0,110 46,66
    poly c v40 0,66 0,0 -46,66
    poly d v40 0,66 0,110 -46,66
    poly d v40 0,66 0,0 46,66
    line #543 w1.6 0,110 0,0
    line #543 w1.6 -46,66 46,66
skis | .42 .95 1.6 2 | pair of skis | red, blue, yellow, green | standing
    shadow a25 5,1 42,5
    line #444 w2.5 v40 -36,0 -44,110
    line #444 w2.5 v40 38,0 48,110
    oval #222 n2 d74,0 -36,10 8,2.5
    poly c v50 -18.5,0 -5.5,0 0,145 -4,160 -8,160 -12,145
    poly c v50 6.5,0 19.5,0 15,145 11,160 7,160 3,145
    rect #fff n2 d19,0 -15,90 -3,100
    rect #223 v60 n2 d22,0 -17,50 -3,72
snowman | .44 1.4 1.8 2 | snowman |  | standing
    shadow a30 5,3 48,9
    let d ~#c22|#26b|#5a4
    line #643 w3 m 26,86 66,110
    oval #eff v75 g20 0,38 42,40
    oval #eff v75 g20 0,90 31,29
    oval #eff v75 g20 0,130 22,21
    oval #222 n3 d0,14 3,72 2.8,2.8
    rect d v70 r5 g30 -24,108 24,118
    poly d v50 g30 8,112 20,112 26,76 14,76
    oval #222 n2 d16,0 -7,137 2.6,3
    poly #e72 v50 1,133 1,127 26,127
    arc #222 w1.5 2,124 9,5 200,340
    rect #223 v40 r2 -29,146 29,151
    rect #223 v70 -19,150 19,178
    rect d -19,150 19,156
tent | .5 2.2 .95 2 | tent, camping tent | red, blue, green, yellow | standing, pitched
    shadow 0,3 90,8
    poly c-30 v40 0,92 52,86 98,6 50,0
    poly c v40 g12 -62,0 0,92 50,0
    poly #222 -22,0 0,66 18,0
    poly c+25 -22,0 0,66 -28,10
    line #ddc w1 -37,40 -80,0
    line #ddc w1 59,40 112,0
hot air balloon | .34 1.2 1.6 | hot air balloon | red, blue, green, purple | flying, floating
    in blob sym 0,160 34,154 60,120 50,78 20,40 12,30
    rect c v90 -62,28 62,162
    let d #fec|#fc4
    blob d v70 -9,160 9,160 12,110 10,80 3,28 -3,28 -10,80 -12,110
    blob d v70 -25,146 -45,140 -58,110 -50,80 -12,28 -6,28 -28,80 -32,110
    blob d v70 25,146 45,140 58,110 50,80 12,28 6,28 28,80 32,110
    out
    gloss a40 -26,126 8,14
    line #443 w1.2 m 10,30 8,14
    rect #963 v60 g60 r2 -10,0 10,15
"""
