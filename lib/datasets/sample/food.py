"""Food and drink, each standing on its origin and about one unit high or wide (see `shapes`)."""

DRAWINGS = """
orange | .3 1.1 1 4 | orange, ripe orange
    let c ~#f81
    shadow 8,4 52,10
    oval c v110 g22 0,49 50,49
    gloss a50 -18,72 12,8
    oval #573 v50 5,90 4,2
    blob ~#483 v70 p40 5,91 15,108 36,112 24,98
orange juice | .46 .75 1.15 | glass of orange juice, glass of juice, glass of fresh orange juice
    let d ~#fa1
    bend #e33|#39d|#5b5 w5 p50 -5,50 12,110 34,122
    shadow a35 10,3 36,8
    cap #def a40 0,3 25,5 180,360
    poly #def a40 -24,3 24,3 32,100 -32,100
    poly d v55 -22,4 22,4 29,80 -29,80
    cap d 0,5 22,5 180,360
    oval d+35 0,80 29,5.5
    oval d+12 0,79 26,4
    poly #fff a45 s1 -21,12 -15,12 -20,90 -27,90
    poly #fff a30 19,15 21,15 27,90 24,90
    arc #eff w1.6 a85 0,100 32,6 0,360
    oval #f81 v50 30,102 20,20
    oval #fed 30,102 18,18
    poly ~#fa2 v30 n9 o40 at30,102 31,104 35,118 30,119 26,117
apple | .3 1 1 4 | apple | red, green
    shadow 7,3 48,9
    blob c v110 g15 sym 0,84 18,92 40,84 50,56 40,20 20,2 0,6
    oval c+25 a50 s6 -16,42 10,28
    oval c-50 s1.5 0,83 12,4
    line #643 w4 0,82 2,95 7,104
    blob ~#483 v70 p70 3,94 14,108 32,110 20,97
    gloss -22,68 9,12
banana | .34 1.4 .85 | banana, ripe banana
    let c ~#fd3
    shadow 0,3 60,8
    blob c v90 g15 -66,62 -50,24 0,2 50,20 70,56 62,60 40,36 0,27 -38,42 -57,66
    bend c-22 w1.8 -60,62 -42,34 0,15 45,28 66,58
    poly #542 70,55 62,60 66,68 74,64
    poly #983 -66,61 -57,65 -60,82 -68,82
strawberry | .3 .9 1 4 | strawberry
    shadow 5,4 36,8
    blob ~#d22 v120 sym 0,86 24,90 44,72 36,36 14,6 0,0
    oval #fd7 n4 d15,0 -22,68 1.3,2.2
    oval #fd7 n5 d14,0 -28,54 1.3,2.2
    oval #fd7 n4 d14,0 -21,40 1.3,2.2
    oval #fd7 n3 d12,0 -12,26 1.3,2.2
    blob ~#483 v70 n6 o35 at0,87 0,87 14,95 30,87 14,80
    gloss -20,66 7,10
broccoli | .36 .95 1 2 | piece of broccoli, head of broccoli
    shadow 0,3 36,8
    blob #9b6 v80 sym 13,0 14,30 30,55
    let d ~#373
    oval ~d v100 g80 m 32,55 20,18
    oval ~d v100 g80 m 17,75 22,20
    oval ~d v100 g80 0,60 25,22
    oval ~d v100 g80 0,86 17,15
coffee | .34 1.3 1 2 | cup of coffee, mug of coffee | white, blue, red, green
    shadow 4,2 72,12
    oval c+20 v50 0,8 66,13
    oval c-10 0,9 40,7
    arc c w7 v70 42,40 20,17 -95,95
    arch c v90 -46,64 -40,30 -24,8 24,8 40,30 46,64
    oval c+35 0,64 46,10
    oval #531 0,63 41,8
    oval #b95 a75 s2 2,63 26,4.5
    bend #fff w4 a30 n2 d24,0 -14,75 -7,86 -19,98 -9,112
pizza | .5 1.6 .8 2 | pizza, cheese pizza
    shadow 0,30 82,36
    oval #eee v30 0,38 80,38
    oval ~#c84 v90 g40 0,41 70,33
    oval #b42 g30 0,42 61,27.5
    oval ~#fc5 g50 0,42.5 58,25.5
    oval #fe9 s1 n14 j42,16 0,42 7,3
    oval ~#b22 v50 g30 n5 o72 at0,43 j4,3 30,43 8.5,4.5
    oval ~#b22 v50 g30 n4 j40,15 0,43 8.5,4.5
    oval #222 n6 j40,14 0,43 3,1.7
    blob ~#483 v70 n4 j34,12 0,43 5,46 11,45 5,42
    line #953 w1 a60 -59,31 59,53
    line #953 w1 a60 -8,13 8,71
    line #953 w1 a60 51,26 -51,58
hot dog | .38 1.6 .5 2 | hot dog
    shadow 0,3 75,10
    let c ~#d95
    rect c v80 r18 g15 -66,14 66,50
    rect #feb r5 -62,36 62,46
    rect #a42 v110 r12 g12 -78,26 78,50
    rect c+12 v100 r16 g15 -68,2 68,34
    bend #fc2 w4.5 v50 -62,38 -46,46 -31,38 -15,46 0,38 15,46 31,38 46,46 62,38
hamburger | .42 1.15 .9 2 | hamburger, burger
    shadow 0,3 60,10
    let c ~#d84
    rect c v90 r10 -50,2 50,22
    rect #532 v70 r8 g70 -54,20 54,37
    poly #fc3 v30 -52,40 52,40 40,27 20,37 -10,26 -30,37
    rect #c32 v50 r3 -50,38 50,45
    bend #7b4 w7 v60 -58,42 -44,50 -29,42 -15,50 0,42 15,50 29,42 44,50 58,42
    cap c v100 g10 0,50 54,42 0,180
    oval #fec m 30,70 3.5,1.8
    oval #fec m 11,80 3.5,1.8
    oval #fec 2,66 3.5,1.8
ice cream | .42 .7 1.05 | ice cream cone, ice cream
    in poly 20,50 -20,50 -2,0 2,0
    rect #da6 v80 -22,0 22,50
    line #a73 w1.2 n8 d12,0 -50,55 -20,-5
    line #a73 w1.2 n8 d12,0 -15,55 -45,-5
    out
    oval #fec|#e9b v110 g30 -12,60 20,19
    oval #743|#bea v110 g30 12,62 20,19
    oval #e9b|#fec|#743 v110 g30 0,80 20,19
    oval #c12 v110 3,100 5,5
"""
